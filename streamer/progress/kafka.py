"""How the projector speaks to Kafka: properties, and questions that do not keep it waiting."""

from collections.abc import Iterable, Mapping
from concurrent.futures import Future

from confluent_kafka import Consumer, IsolationLevel, TopicCollection, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # public, yet not re-exported
    AdminClient,
    ListOffsetsResultInfo,
    OffsetSpec,
)

from streamer.logs import client_logger
from streamer.settings import Settings

Properties = dict[str, str | int | float | bool]
Partition = tuple[str, int]
Offsets = dict[Partition, int]

EARLIEST = OffsetSpec.earliest()  # type: ignore[no-untyped-call]  # the library's own lack
LATEST = OffsetSpec.latest()  # type: ignore[no-untyped-call]
"""The end of everything that was written, what is in an open transaction included."""

_REQUEST_S = 10.0


def consumer_config(settings: Settings) -> Properties:
    """Properties of a consumer that is assigned by hand and joins no group."""
    return {
        "bootstrap.servers": settings.kafka.bootstrap_servers,
        "client.id": f"{settings.worker.id}-progress",
        "reconnect.backoff.ms": 1_000,
        "group.id": f"{settings.kafka.group_id}.progress",  # asked for, and never joined
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "earliest",
        # What is read ahead lies in a worker's memory; a fetch may expand to several times that.
        "queued.max.messages.kbytes": 2_048,
        "max.partition.fetch.bytes": 131_072,
        "fetch.queue.backoff.ms": 20,
        **settings.kafka.common_properties,
        "isolation.level": "read_committed",
        "enable.partition.eof": True,
    }


def client_config(settings: Settings) -> Properties:
    """Properties of an admin client or a producer."""
    return {
        "bootstrap.servers": settings.kafka.bootstrap_servers,
        "client.id": f"{settings.worker.id}-progress",
        "reconnect.backoff.ms": 1_000,
        **settings.kafka.common_properties,
    }


class OffsetsQuestion:
    """The ends or the beginnings of partitions, asked for in the background.

    Args:
        spec: `EARLIEST` or `LATEST`.
    """

    def __init__(
        self, admin: AdminClient, partitions: Iterable[Partition], spec: OffsetSpec
    ) -> None:
        asked = {TopicPartition(*partition): spec for partition in partitions}
        self._futures: Mapping[TopicPartition, Future[ListOffsetsResultInfo]] = (
            admin.list_offsets(
                asked,
                isolation_level=IsolationLevel.READ_UNCOMMITTED,
                request_timeout=_REQUEST_S,
            )
            if asked
            else {}
        )

    @property
    def is_answered(self) -> bool:
        """Whether `answer` answers at once."""
        return all(future.done() for future in self._futures.values())

    def answer(self) -> Offsets:
        """The offsets; waits for them.

        Raises:
            KafkaException: they cannot be had.
        """
        return {
            (where.topic, where.partition): future.result().offset
            for where, future in self._futures.items()
        }


class GroupOffsets:
    """Asks for a group's committed offsets, through a consumer that does not join it.

    An `AdminClient` can be asked too, and then ends the process with a segmentation fault if the
    group's coordinator has just moved (librdkafka 2.16).
    """

    def __init__(self, settings: Settings, group: str) -> None:
        self._consumer = Consumer(
            {
                **client_config(settings),
                "group.id": group,
                # Offsets of a transaction that is open do not count yet, and are not waited for.
                "isolation.level": "read_uncommitted",
            },
            logger=client_logger("progress"),
        )

    def read(self, partitions: Iterable[Partition]) -> dict[Partition, TopicPartition]:
        """The offsets, with their metadata, of the partitions that have one.

        Raises:
            KafkaException: they cannot be had.
        """
        asked = [TopicPartition(*partition) for partition in partitions]
        found = self._consumer.committed(asked, _REQUEST_S) if asked else []
        return {(each.topic, each.partition): each for each in found if each.offset >= 0}

    def close(self) -> None:
        """Let go of the connections."""
        self._consumer.close()


def topic_id(admin: AdminClient, topic: str) -> str:
    """The topic's id: one that is created again under its name has another.

    Raises:
        KafkaException: Kafka cannot be reached, or there is no such topic.
    """
    (future,) = admin.describe_topics(TopicCollection([topic]), request_timeout=_REQUEST_S).values()
    return str(future.result().topic_id)


def partitions_of(admin: AdminClient, topics: Iterable[str]) -> dict[str, list[int]]:
    """The partitions of those of the topics that are there.

    Raises:
        KafkaException: Kafka cannot be reached.
    """
    # Asked for all topics, as a question for one by its name might create it.
    found = admin.list_topics(timeout=_REQUEST_S).topics
    return {
        topic: sorted(found[topic].partitions)
        for topic in topics
        if topic in found and found[topic].error is None
    }
