"""What the contracts run over: a Kafka in memory, and a real one, behind the same few methods."""

import secrets
from collections.abc import Callable
from typing import Protocol, cast

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # public, yet not re-exported
    AdminClient,
    NewTopic,
)

from streamer.kafka.properties import (
    Properties,
    member_properties,
    reader_properties,
    transactional_properties,
)
from streamer.settings import KafkaSettings, Settings
from streamer.stack import Stack
from tests.kit.fakes.kafka import FakeKafka
from tests.kit.fakes.kafka.consumer import FakeConsumer
from tests.kit.harness import wait_until

_PATIENCE_S = 30
_TURNS = 200


class Cluster(Protocol):
    """A Kafka, and clients with the properties that streamer gives them.

    Attributes:
        protocol: that of its groups.
    """

    protocol: str

    def create(self, partitions: int = 1, limit: int | None = None) -> str:
        """Create a topic; `limit` is the largest batch in bytes that it takes."""

    def producer(self, name: str = "p") -> Producer:
        """A transactional producer, not initialised."""

    def reader(self, **properties: str | bool) -> Consumer:
        """A consumer that is no member of the group."""

    def member(self, **properties: str | int) -> Consumer:
        """A consumer that may become a member of the group."""

    def admin(self) -> AdminClient:
        """An admin client."""

    def let_expire(self, member: Consumer) -> None:
        """Do not poll a member for longer than its `max.poll.interval.ms`."""

    def wait_until(self, condition: Callable[[], object], what: str) -> None:
        """Wait for a condition."""


class FakeCluster:
    """The Kafka in memory."""

    def __init__(self) -> None:
        self.kafka, self.protocol = FakeKafka({}), "classic"
        self._settings = _settings("nowhere", self.protocol)

    def create(self, partitions: int = 1, limit: int | None = None) -> str:
        topic = f"t{len(self.kafka.topic_ids)}"
        self.kafka.create(topic, partitions, limit)
        return topic

    def producer(self, name: str = "p") -> Producer:
        return cast(Producer, self.kafka.producer(_producer(self._settings, name)))

    def reader(self, **properties: str | bool) -> Consumer:
        return cast(Consumer, self.kafka.consumer(_reader(self._settings) | _named(properties)))

    def member(self, **properties: str | int) -> Consumer:
        return cast(Consumer, self.kafka.consumer(_member(self._settings) | _named(properties)))

    def admin(self) -> AdminClient:
        return cast(AdminClient, self.kafka.admin({}))

    def let_expire(self, member: Consumer) -> None:
        cast(FakeConsumer, member).expire()

    def wait_until(self, condition: Callable[[], object], what: str) -> None:
        assert any(condition() for _ in range(_TURNS)), f"never: {what}"


class RealCluster:
    """A Kafka that the project started."""

    def __init__(self, bootstrap_servers: str, protocol: str) -> None:
        self.protocol = protocol
        self._settings = _settings(bootstrap_servers, protocol)
        self._admin = AdminClient({"bootstrap.servers": bootstrap_servers})
        self._open: list[Consumer] = []

    def create(self, partitions: int = 1, limit: int | None = None) -> str:
        topic = f"t{secrets.token_hex(4)}"
        config = {} if limit is None else {"max.message.bytes": str(limit)}
        (future,) = (
            self.admin().create_topics([NewTopic(topic, partitions, 1, config=config)]).values()
        )
        future.result()
        return topic

    def producer(self, name: str = "p") -> Producer:
        return Producer(_producer(self._settings, name))

    def reader(self, **properties: str | bool) -> Consumer:
        return self._opened(Consumer(_reader(self._settings) | _named(properties)))

    def member(self, **properties: str | int) -> Consumer:
        return self._opened(Consumer(_member(self._settings) | _named(properties)))

    def admin(self) -> AdminClient:
        return self._admin

    def let_expire(self, member: Consumer) -> None:
        """Nothing has to be done."""

    def wait_until(self, condition: Callable[[], object], what: str) -> None:
        wait_until(condition, _PATIENCE_S, what)

    def close(self) -> None:
        """Close what is open."""
        for consumer in self._open:
            consumer.close()

    def _opened(self, consumer: Consumer) -> Consumer:
        self._open.append(consumer)
        return consumer


def make_cluster(kind: str, request: pytest.FixtureRequest, protocol: str = "classic") -> Cluster:
    """The cluster in memory (`fake`), or the real one."""
    if kind == "fake":
        return FakeCluster()
    stack: Stack = request.getfixturevalue("stack")
    made = RealCluster(stack.bootstrap_servers, protocol)
    request.addfinalizer(made.close)
    return made


def _settings(bootstrap_servers: str, protocol: str) -> Settings:
    return Settings.model_validate(
        {
            "kafka": KafkaSettings.model_validate(
                {
                    "bootstrap_servers": bootstrap_servers,
                    "group_id": f"g{secrets.token_hex(4)}",
                    "group_protocol": protocol,
                }
            )
        }
    )


def _producer(settings: Settings, name: str) -> Properties:
    return {**transactional_properties(settings, "contract", name), "log_level": 0}


def _reader(settings: Settings) -> Properties:
    group = settings.kafka.group_id
    properties = reader_properties(
        settings, "contract", group, read_ahead_kb=1_024, fetch_bytes=32_768
    )
    return {**properties, "log_level": 0}


def _member(settings: Settings) -> Properties:
    properties = {**member_properties(settings, {}), "log_level": 0}
    if settings.kafka.group_protocol == "classic":
        properties |= {"session.timeout.ms": 3_000, "heartbeat.interval.ms": 300}
    return properties


def _named(properties: "dict[str, str | int] | dict[str, str | bool]") -> Properties:
    return {name.replace("_", "."): value for name, value in properties.items()}
