"""What a cluster says of its topics and brokers."""

from collections.abc import Iterable

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicCollection
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # public, yet not re-exported
    AdminClient,
    ConfigResource,
    ResourceType,
)

_REQUEST_S = 10.0
_HIDDEN = (KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.CLUSTER_AUTHORIZATION_FAILED)


def partitions_of(
    client: AdminClient | Consumer | Producer,
    topics: Iterable[str],
    timeout_s: float = _REQUEST_S,
) -> dict[str, list[int]]:
    """The partitions of those of the topics that are there.

    Raises:
        KafkaException: Kafka cannot be reached.
    """
    # Asked for all topics, as a question for one by its name might create it.
    found = client.list_topics(timeout=timeout_s).topics
    return {
        topic: sorted(found[topic].partitions)
        for topic in topics
        if topic in found and found[topic].error is None
    }


def topic_id(admin: AdminClient, topic: str) -> str:
    """The topic's id: one that is created again under its name has another.

    Raises:
        KafkaException: Kafka cannot be reached, or there is no such topic.
    """
    (future,) = admin.describe_topics(TopicCollection([topic]), request_timeout=_REQUEST_S).values()
    return str(future.result().topic_id)


def read_configs(
    admin: AdminClient, kind: ResourceType, names: Iterable[str]
) -> dict[str, dict[str, str]]:
    """The configuration of topics or brokers; empty where we are not allowed to see it.

    Raises:
        KafkaException: Kafka cannot be reached, or there is no such thing.
    """
    resources = [ConfigResource(kind, name) for name in names]
    if not resources:
        return {}
    configs: dict[str, dict[str, str]] = {}
    for resource, future in admin.describe_configs(resources, request_timeout=_REQUEST_S).items():
        try:
            entries = future.result()
        except KafkaException as error:
            if error.args[0].code() not in _HIDDEN:
                raise
            entries = {}
        configs[resource.name] = {
            entry.name: entry.value for entry in entries.values() if entry.value is not None
        }
    return configs
