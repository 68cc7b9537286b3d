"""Cluster metadata: topics, partitions and configurations."""

from collections.abc import Iterable

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicCollection
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # public, yet not re-exported
    AdminClient,
    ConfigResource,
    ResourceType,
)

from streamer.kafka.answers import answer_of

_REQUEST_S = 10.0
_HIDDEN = (KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.CLUSTER_AUTHORIZATION_FAILED)


def partitions_of(
    client: AdminClient | Consumer | Producer,
    topics: Iterable[str],
    timeout_s: float = _REQUEST_S,
) -> dict[str, list[int]]:
    """Return the partitions of each of the given topics that exists.

    Raises:
        KafkaException: Kafka cannot be reached.
    """
    # List all topics: requesting one by name might auto-create it.
    found = client.list_topics(timeout=timeout_s).topics
    return {
        topic: sorted(found[topic].partitions)
        for topic in topics
        if topic in found and found[topic].error is None
    }


def topic_id(admin: AdminClient, topic: str) -> str:
    """Return the topic's id, which changes when the topic is recreated under the same name.

    Raises:
        KafkaException: Kafka cannot be reached, or the topic does not exist.
    """
    (future,) = admin.describe_topics(TopicCollection([topic]), request_timeout=_REQUEST_S).values()
    return str(answer_of(future).topic_id)


def read_configs(
    admin: AdminClient, kind: ResourceType, names: Iterable[str]
) -> dict[str, dict[str, str]]:
    """Return the configuration of topics or brokers, by name.

    A configuration that the client is not authorized to read is empty.

    Raises:
        KafkaException: Kafka cannot be reached, or a resource does not exist.
    """
    resources = [ConfigResource(kind, name) for name in names]
    if not resources:
        return {}
    configs: dict[str, dict[str, str]] = {}
    for resource, future in admin.describe_configs(resources, request_timeout=_REQUEST_S).items():
        try:
            entries = answer_of(future)
        except KafkaException as error:
            if error.args[0].code() not in _HIDDEN:
                raise
            entries = {}
        configs[resource.name] = {
            entry.name: entry.value for entry in entries.values() if entry.value is not None
        }
    return configs
