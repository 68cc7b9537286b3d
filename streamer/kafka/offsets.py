"""First and end offsets of partitions, committed offsets of groups, and group lag."""

import sys
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from contextlib import suppress

from confluent_kafka import (
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicPartition,
)
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # public, yet not re-exported
    AdminClient,
    ListOffsetsResultInfo,
    OffsetSpec,
)

from streamer.kafka.answers import answer_of
from streamer.kafka.metadata import partitions_of
from streamer.kafka.properties import client_properties
from streamer.kafka.repeating import repeat
from streamer.logs import client_logger
from streamer.settings import Settings

Partition = tuple[str, int]
Offsets = dict[Partition, int]

EARLIEST = OffsetSpec.earliest()  # type: ignore[no-untyped-call]  # the library's own lack
LATEST = OffsetSpec.latest()  # type: ignore[no-untyped-call]
"""The high watermark; with READ_COMMITTED, the last stable offset."""

_REQUEST_S = 10.0
_REFRESH_S = 2.0
OTHER_LEADER = (
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.FENCED_LEADER_EPOCH,
    KafkaError.UNKNOWN_LEADER_EPOCH,
)

_GENERATION = slice(7, 11)
"""Position of the generation in serialized group metadata, after the format name."""


class OffsetsQuestion:
    """A background request for the first or end offsets of partitions.

    Args:
        spec: `EARLIEST` or `LATEST`.
        isolation: READ_UNCOMMITTED also counts records of open transactions.
    """

    def __init__(
        self,
        admin: AdminClient,
        partitions: Iterable[Partition],
        spec: OffsetSpec,
        isolation: IsolationLevel = IsolationLevel.READ_UNCOMMITTED,
    ) -> None:
        self._admin = admin
        asked = {TopicPartition(*partition): spec for partition in partitions}
        self._futures: Mapping[TopicPartition, Future[ListOffsetsResultInfo]] = (
            admin.list_offsets(asked, isolation_level=isolation, request_timeout=_REQUEST_S)
            if asked
            else {}
        )

    @property
    def is_answered(self) -> bool:
        """Whether `answer` returns without blocking."""
        return all(future.done() for future in self._futures.values())

    def answer(self) -> Offsets:
        """Wait for the offsets and return them.

        Raises:
            KafkaException: the request failed.
        """
        try:
            return {
                (where.topic, where.partition): answer_of(future).offset
                for where, future in self._futures.items()
            }
        except KafkaException as exception:
            if exception.args[0].code() in OTHER_LEADER:
                # Since the brokers died and came back. The client would go on asking the leader
                # that it knows for minutes, until it refreshes its metadata (librdkafka 2.16).
                with suppress(KafkaException):
                    self._admin.list_topics(timeout=_REFRESH_S)
            raise


def end_offsets(admin: AdminClient, topic: str) -> dict[int, int]:
    """Return the current end offset of each partition of a topic.

    Repeats the request for some seconds while a partition has no leader, as a new one.

    Raises:
        KafkaException: Kafka cannot be used, or the topic does not exist.
    """
    found = partitions_of(admin, [topic])
    if topic not in found:
        raise KafkaException(KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART, f"no topic {topic}"))
    partitions = [(topic, number) for number in found[topic]]
    ends = repeat(
        lambda: OffsetsQuestion(admin, partitions, LATEST).answer(),
        _REQUEST_S,
        lambda error: error.retriable() or error.code() in OTHER_LEADER,
    )
    return {number: end for (_, number), end in ends.items()}


def committed(
    consumer: Consumer, partitions: Iterable[Partition], timeout_s: float = _REQUEST_S
) -> list[TopicPartition]:
    """Return the committed offsets of the consumer's group, negative where there is none.

    With `isolation.level=read_committed` this waits for open transactions that contain offsets.

    Raises:
        KafkaException: the request failed for at least one partition.
    """
    asked = [TopicPartition(*partition) for partition in partitions]
    return checked(consumer.committed(asked, timeout_s)) if asked else []


def checked(found: list[TopicPartition]) -> list[TopicPartition]:
    """Return `found` unchanged if no partition in it has an error.

    Raises:
        KafkaException: a partition has an error.
    """
    for each in found:
        if each.error is not None:
            raise KafkaException(each.error)
    return found


class GroupOffsets:
    """Reads a group's committed offsets through a consumer that does not join the group.

    `AdminClient` could do this too, but crashes the process with a segmentation fault if the
    group's coordinator has just moved (librdkafka 2.16).
    """

    def __init__(self, settings: Settings, group: str) -> None:
        self._consumer = Consumer(
            {
                **client_properties(settings, f"{settings.worker.id}-progress"),
                "group.id": group,
                # Ignore offsets of open transactions instead of waiting for them.
                "isolation.level": "read_uncommitted",
            },
            logger=client_logger("progress"),
        )

    def read(self, partitions: Iterable[Partition]) -> dict[Partition, TopicPartition]:
        """Return the committed offsets, with metadata, of the partitions that have one.

        Raises:
            KafkaException: the request failed.
        """
        found = committed(self._consumer, partitions)
        return {(each.topic, each.partition): each for each in found if each.offset >= 0}

    def close(self) -> None:
        """Close the consumer."""
        self._consumer.close()


class GroupLag:
    """Measures how many recipients the workers' group has not committed yet."""

    def __init__(self, settings: Settings, admin: AdminClient) -> None:
        topic = settings.topics.recipients
        self._admin = admin
        self._committed = GroupOffsets(settings, settings.kafka.group_id)
        numbers = partitions_of(admin, [topic]).get(topic, [])
        self._partitions = [(topic, number) for number in numbers]

    def measure(self) -> int | None:
        """Return the lag in records, or None if Kafka does not answer."""
        try:
            ends = OffsetsQuestion(self._admin, self._partitions, LATEST)
            offsets = self._committed.read(self._partitions)
            return sum(
                max(0, end - (offsets[place].offset if place in offsets else 0))
                for place, end in ends.answer().items()
            )
        except KafkaException:
            return None


def generation(metadata: object) -> int:
    """Return the generation in a consumer's group metadata, negative if it has not joined.

    A broker accepts offsets with a negative generation from any client, even a fenced one.
    """
    if not isinstance(metadata, bytes) or len(metadata) < _GENERATION.stop:
        return -1
    return int.from_bytes(metadata[_GENERATION], sys.byteorder, signed=True)
