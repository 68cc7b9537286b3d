"""How long a worker's session is, depending on what the brokers allow."""

from concurrent.futures import Future
from types import SimpleNamespace
from typing import cast

import pytest
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # public, yet not re-exported
    AdminClient,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from streamer.kafka.sessions import MIN_SESSION, member_session
from streamer.settings import Settings

_SESSION = "consumer.session.timeout.ms"


class _Brokers:
    """Answers as an admin client does, and notes how a group is configured."""

    def __init__(self, configs: list[dict[str, str]], refusal: KafkaError | None = None) -> None:
        self._configs = configs
        self._refusal = refusal
        self.group = {_SESSION: ConfigEntry(_SESSION, "45000", is_default=True)}

    def list_topics(self, timeout: float) -> object:
        return SimpleNamespace(brokers=dict.fromkeys(range(len(self._configs))))

    def describe_configs(
        self, resources: list[ConfigResource], request_timeout: float
    ) -> dict[ConfigResource, Future[dict[str, ConfigEntry]]]:
        return {resource: _answer(self._of(resource)) for resource in resources}

    def incremental_alter_configs(
        self, resources: list[ConfigResource], request_timeout: float
    ) -> dict[ConfigResource, Future[None]]:
        (resource,) = resources
        future: Future[None] = Future()
        if self._refusal is None:
            self.group |= {each.name: each for each in resource.incremental_configs}
            future.set_result(None)
        else:
            future.set_exception(KafkaException(self._refusal))
        return {resource: future}

    def _of(self, resource: ConfigResource) -> dict[str, ConfigEntry]:
        if resource.restype == ResourceType.GROUP:
            return self.group
        values = self._configs[int(resource.name)]
        return {name: ConfigEntry(name, value) for name, value in values.items()}


def _answer(found: dict[str, ConfigEntry]) -> Future[dict[str, ConfigEntry]]:
    future: Future[dict[str, ConfigEntry]] = Future()
    future.set_result(found)
    return future


def _session_ms(brokers: object) -> object:
    return member_session(cast(AdminClient, brokers), _settings())["session.timeout.ms"]


def _settings(protocol: str = "classic") -> Settings:
    return Settings.model_validate(
        {"kafka": {"group_protocol": protocol}, "worker": {"id": "worker-7"}}
    )


def test_a_session_is_as_short_as_all_brokers_allow() -> None:
    assert _session_ms(_Brokers([{MIN_SESSION: "1000"}])) == 2_000
    assert _session_ms(_Brokers([{MIN_SESSION: "1000"}, {MIN_SESSION: "30000"}])) == 30_000
    assert _session_ms(_Brokers([{}, {MIN_SESSION: "1000"}])) == 6_000  # Kafka's default


def test_a_session_is_what_brokers_allow_by_default_if_they_do_not_say() -> None:
    class Silent(_Brokers):
        def list_topics(self, timeout: float) -> object:
            raise KafkaException(KafkaError(KafkaError._TRANSPORT))

    assert _session_ms(Silent([])) == 6_000


def test_no_member_is_static() -> None:
    brokers = cast(AdminClient, _Brokers([{}]))
    assert "group.instance.id" not in member_session(brokers, _settings())
    assert member_session(brokers, _settings("consumer")) == {}


def test_a_group_is_configured_unless_an_operator_did() -> None:
    brokers = _Brokers([])
    member_session(cast(AdminClient, brokers), _settings("consumer"))
    assert brokers.group[_SESSION].value == "2000"
    brokers.group[_SESSION] = ConfigEntry(_SESSION, "50000", is_default=False)
    member_session(cast(AdminClient, brokers), _settings("consumer"))
    assert brokers.group[_SESSION].value == "50000"


def test_a_group_that_cannot_be_configured_is_told(caplog: pytest.LogCaptureFixture) -> None:
    brokers = _Brokers([], KafkaError(KafkaError.INVALID_CONFIG))
    assert member_session(cast(AdminClient, brokers), _settings("consumer")) == {}
    assert "cannot be shortened" in caplog.text
