"""How soon the group notices that a worker died.

The classic protocol lets each member choose its session timeout, as short as the brokers allow. In
the `consumer` protocol it is a configuration of the group. In either protocol nobody waits for
members that leave in good order.

Members are not static (KIP-345), though one that is started again would have its partitions back
sooner: if such a member dies between the two steps of a cooperative rebalance, its successor takes
its place without a rebalance, nobody begins the second step, and the partitions that were on their
way stay without an owner for as long as the group is stable. The storms of `make chaos` found it.

A worker that is alive and declared dead costs little: its partitions move, and what it had in
flight is adopted.
"""

import logging

from confluent_kafka import KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # public, yet not re-exported
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from streamer.kafka.answers import answer_of
from streamer.kafka.metadata import read_configs
from streamer.kafka.properties import Properties
from streamer.settings import Settings

logger = logging.getLogger(__name__)

HEARTBEAT_MS = 500
"""Members learn of a rebalance from their next heartbeat."""
SESSION_MS = 2_000
"""A worker that is started again has to wait for it as well."""
MIN_SESSION = "group.min.session.timeout.ms"
_MIN_SESSION_MS = 6_000  # Kafka's default
_METADATA_S = 5.0
_CONFIG_S = 5.0
_GROUP_CONFIG = {
    "consumer.session.timeout.ms": str(SESSION_MS),
    "consumer.heartbeat.interval.ms": str(HEARTBEAT_MS),
}


def member_session(admin: AdminClient, settings: Settings) -> Properties:
    """Return the properties of a member that concern its session.

    For the `consumer` protocol there are none; it configures the group instead, unless an operator
    has configured the group or the brokers.
    """
    if settings.kafka.group_protocol == "consumer":
        try:
            _configure_group(admin, settings.kafka.group_id)
        except KafkaException as exception:
            logger.warning(
                "the session timeout of the group cannot be shortened: the partitions of a worker "
                "that dies are not read until it has passed; see group.consumer.min.* of the "
                "brokers",
                extra={"wanted": _GROUP_CONFIG, "error": exception.args[0].str()},
            )
        return {}
    try:
        session_ms = max(SESSION_MS, _min_session_ms(admin))
    except KafkaException as exception:
        logger.warning(
            "the shortest session timeout that the brokers allow cannot be read",
            extra={"assumed_ms": _MIN_SESSION_MS, "error": exception.args[0].str()},
        )
        session_ms = _MIN_SESSION_MS
    return {
        "session.timeout.ms": session_ms,
        "heartbeat.interval.ms": HEARTBEAT_MS,
    }


def _min_session_ms(admin: AdminClient) -> int:
    """The shortest session timeout that all brokers allow; Kafka's default if that is hidden."""
    brokers = admin.list_topics(timeout=_METADATA_S).brokers
    configs = read_configs(admin, ResourceType.BROKER, map(str, brokers))
    return max((int(c.get(MIN_SESSION, _MIN_SESSION_MS)) for c in configs.values()), default=0)


def _configure_group(admin: AdminClient, group: str) -> None:
    resource = ConfigResource(ResourceType.GROUP, group)
    (described,) = admin.describe_configs([resource], request_timeout=_CONFIG_S).values()
    configs = answer_of(described)
    wanted = [
        ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
        for name, value in _GROUP_CONFIG.items()
        if name in configs and configs[name].is_default
    ]
    if wanted:
        resource = ConfigResource(ResourceType.GROUP, group, incremental_configs=wanted)
        (done,) = admin.incremental_alter_configs([resource], request_timeout=_CONFIG_S).values()
        answer_of(done)
