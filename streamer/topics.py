"""The topics: their required configuration, and creating them."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # public, yet not re-exported
    AdminClient,
    ClusterMetadata,
    NewTopic,
    ResourceType,
    TopicMetadata,
)

from streamer.kafka.answers import answer_of
from streamer.kafka.metadata import read_configs
from streamer.settings import SettingsError, TopicSettings

DEFAULT_PARTITIONS = 8
MAX_REPLICAS = 3

_DAY_MS = 86_400_000
_TIMEOUT_S = 10.0
_METADATA_S = 5.0
_FOREVER = "-1"

_ROOM = 1_048_576
"""Bytes by which a result may exceed its record, e.g. for the headers of a dead letter."""

_MAX_RECORD_BYTES = 1_048_588  # Kafka's default

_DELETE = {"cleanup.policy": "delete", "retention.bytes": _FOREVER}
# Larger than for input records, so that Kafka never rejects a result or parked copy for its size.
_ENDING = {**_DELETE, "max.message.bytes": str(_MAX_RECORD_BYTES + _ROOM)}

_CONFIGS: dict[str, dict[str, str]] = {
    # Longer than any outage, weekend and holiday included.
    "recipients": {
        **_DELETE,
        "retention.ms": str(14 * _DAY_MS),
        "max.message.bytes": str(_MAX_RECORD_BYTES),
    },
    # The permanent record of what was sent, what was not, and why.
    "outcomes": {**_ENDING, "retention.ms": str(365 * _DAY_MS)},
    # Long enough for an operator to examine and replay them.
    "dead_letters": {**_ENDING, "retention.ms": str(90 * _DAY_MS)},
    # A campaign may be paused without a time limit.
    "parked": {**_ENDING, "retention.ms": _FOREVER},
    # One summary per campaign, kept forever.
    "results": {"cleanup.policy": "compact", "max.message.bytes": str(_MAX_RECORD_BYTES)},
    # As long as the outcomes that it counts.
    "progress": {
        **_DELETE,
        "retention.ms": str(365 * _DAY_MS),
        "max.message.bytes": str(_MAX_RECORD_BYTES),
    },
    # As long as the outcomes that it continues.
    "events": {
        **_DELETE,
        "retention.ms": str(365 * _DAY_MS),
        "max.message.bytes": str(_MAX_RECORD_BYTES),
    },
}
"""The configuration of each topic, by its setting's name."""


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """The configuration to create a topic with, and the minimum for an existing one."""

    name: str
    partitions: int
    replication: int
    config: dict[str, str]


@dataclass(frozen=True, slots=True)
class Difference:
    """A setting in which an existing topic falls short, and how to fix it."""

    what: str
    found: str
    wanted: str
    mend: str

    def __str__(self) -> str:
        return f"{self.what} is {self.found}, should be {self.wanted}"


@dataclass(slots=True)
class TopicReport:
    """What was found or done for one topic."""

    name: str
    created: bool = False
    missing: bool = False
    differences: list[Difference] = field(default_factory=list)


def ensure(
    admin: AdminClient,
    topics: TopicSettings,
    partitions: int = DEFAULT_PARTITIONS,
    replication: int | None = None,
) -> list[TopicReport]:
    """Create missing topics, check the others, and return a report for each.

    Existing topics are never changed. More partitions or a longer retention are fine.

    Args:
        admin: an admin client.
        topics: the names of the topics.
        partitions: number of partitions.
        replication: replication factor; None for 3, or the number of brokers if lower.

    Raises:
        SettingsError: two settings name the same topic.
        KafkaException: Kafka is unavailable, or refuses.
    """
    metadata = _metadata(admin)
    replicas = replication or min(MAX_REPLICAS, len(metadata.brokers))
    wanted = wanted_topics(topics, partitions, replicas)
    missing = [each for each in wanted if each.name not in metadata.topics]
    created = _create(admin, missing)
    _await(admin, created)
    reports = {name: TopicReport(name, created=True) for name in created}
    for report in _compare(admin, [each for each in wanted if each.name not in created]):
        # The operator may choose another replication, unless it was requested here.
        if replication is None:
            report.differences = [d for d in report.differences if d.what != "replication"]
        reports[report.name] = report
    return [reports[each.name] for each in wanted]


def inspect(admin: AdminClient, topics: TopicSettings) -> list[TopicReport]:
    """Check the configuration of the topics, ignoring partitions and replication.

    Raises:
        SettingsError: two settings name the same topic.
        KafkaException: Kafka is unavailable.
    """
    return _compare(admin, wanted_topics(topics, 1, 1))


def wanted_topics(topics: TopicSettings, partitions: int, replication: int) -> list[TopicSpec]:
    """Return the configuration of each topic.

    Raises:
        SettingsError: two settings name the same topic.
    """
    names: dict[str, str] = {
        setting: str(getattr(topics, setting)) for setting in TopicSettings.model_fields
    }
    for setting, name in names.items():
        for other, other_name in names.items():
            if other != setting and other_name == name:
                raise SettingsError(f"topics.{setting} and topics.{other} are both {name}")
    # With three replicas, two must have a record before it is acknowledged: one broker may fail.
    copies = "2" if replication >= MAX_REPLICAS else "1"
    return [
        TopicSpec(
            name, partitions, replication, {**_CONFIGS[setting], "min.insync.replicas": copies}
        )
        for setting, name in names.items()
    ]


def _metadata(admin: AdminClient) -> ClusterMetadata:
    return admin.list_topics(timeout=_METADATA_S)


def _create(admin: AdminClient, wanted: list[TopicSpec]) -> set[str]:
    """Create topics; return the names of those not created concurrently by another process."""
    if not wanted:
        return set()
    new = [
        NewTopic(each.name, each.partitions, each.replication, config=each.config)
        for each in wanted
    ]
    created = set()
    for name, future in admin.create_topics(new, request_timeout=_TIMEOUT_S).items():
        try:
            answer_of(future)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise
        else:
            created.add(name)
    return created


def _await(admin: AdminClient, names: set[str]) -> None:
    """Wait until all created topics are writable; brokers learn of them with a delay."""
    deadline = time.monotonic() + _TIMEOUT_S
    while not all(_is_led(_metadata(admin).topics.get(name)) for name in names):
        if time.monotonic() > deadline:
            raise KafkaException(
                KafkaError(KafkaError.LEADER_NOT_AVAILABLE, "the new topics have no leader yet")
            )
        time.sleep(0.05)


def _is_led(topic: TopicMetadata | None) -> bool:
    if topic is None or topic.error is not None or not topic.partitions:
        return False
    return all(partition.leader >= 0 for partition in topic.partitions.values())


def _compare(admin: AdminClient, wanted: list[TopicSpec]) -> list[TopicReport]:
    found = _metadata(admin).topics
    existing = [each for each in wanted if each.name in found]
    configs = read_configs(admin, ResourceType.TOPIC, [each.name for each in existing])
    reports = []
    for each in wanted:
        topic = found.get(each.name)
        if topic is None:
            reports.append(TopicReport(each.name, missing=True))
            continue
        replication = min((len(p.replicas) for p in topic.partitions.values()), default=0)
        differences = [
            *_shape_differences(each, len(topic.partitions), replication),
            *_config_differences(each, configs[each.name], replication),
        ]
        reports.append(TopicReport(each.name, differences=differences))
    return reports


def _shape_differences(
    wanted: TopicSpec, partitions: int, replication: int
) -> Iterable[Difference]:
    if partitions < wanted.partitions:
        yield Difference(
            "partitions",
            str(partitions),
            f"{wanted.partitions} or more",
            f"kafka-topics --alter --topic {wanted.name} --partitions {wanted.partitions}",
        )
    if replication < wanted.replication:
        yield Difference(
            "replication",
            str(replication),
            f"{wanted.replication} or more",
            f"kafka-reassign-partitions for {wanted.name}, to {wanted.replication} brokers",
        )


def _config_differences(
    wanted: TopicSpec, found: dict[str, str], replication: int
) -> Iterable[Difference]:
    for name, value in wanted.config.items():
        actual = found.get(name)
        if actual is None:
            continue
        if name == "min.insync.replicas" and int(actual) > replication:
            at_most = max(1, replication - 1)
            yield _config_difference(wanted.name, name, actual, str(at_most), f"at most {at_most}")
        elif not _suffices(name, actual, value):
            words = value if name == "cleanup.policy" else f"{_readable(value)} or more"
            yield _config_difference(wanted.name, name, actual, value, words)


def _config_difference(topic: str, name: str, found: str, value: str, words: str) -> Difference:
    mend = (
        f"kafka-configs --alter --entity-type topics --entity-name {topic} "
        f"--add-config {name}={value}"
    )
    return Difference(name, _readable(found), words, mend)


def _readable(value: str) -> str:
    return "-1 (unlimited)" if value == _FOREVER else value


def _suffices(name: str, actual: str, wanted: str) -> bool:
    if name == "cleanup.policy":
        return actual == wanted
    if name.startswith("retention."):
        return actual == _FOREVER or (wanted != _FOREVER and int(actual) >= int(wanted))
    return int(actual) >= int(wanted)
