"""Offsets: where partitions begin and end, what a group has committed, and how far it is behind."""

import sys
from collections.abc import Iterable, Mapping
from concurrent.futures import Future

from confluent_kafka import Consumer, IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # public, yet not re-exported
    AdminClient,
    ListOffsetsResultInfo,
    OffsetSpec,
)

from streamer.kafka.metadata import partitions_of
from streamer.kafka.properties import client_properties
from streamer.logs import client_logger
from streamer.settings import Settings

Partition = tuple[str, int]
Offsets = dict[Partition, int]

EARLIEST = OffsetSpec.earliest()  # type: ignore[no-untyped-call]  # the library's own lack
LATEST = OffsetSpec.latest()  # type: ignore[no-untyped-call]
"""The end of everything that was written, unless only what is committed is asked for."""

_REQUEST_S = 10.0

_GENERATION = slice(7, 11)
"""Where the generation stands in a group's metadata: behind the name of its format."""


class OffsetsQuestion:
    """The ends or the beginnings of partitions, asked for in the background.

    Args:
        spec: `EARLIEST` or `LATEST`.
        isolation: READ_UNCOMMITTED: what is in an open transaction counts too.
    """

    def __init__(
        self,
        admin: AdminClient,
        partitions: Iterable[Partition],
        spec: OffsetSpec,
        isolation: IsolationLevel = IsolationLevel.READ_UNCOMMITTED,
    ) -> None:
        asked = {TopicPartition(*partition): spec for partition in partitions}
        self._futures: Mapping[TopicPartition, Future[ListOffsetsResultInfo]] = (
            admin.list_offsets(asked, isolation_level=isolation, request_timeout=_REQUEST_S)
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


def committed(
    consumer: Consumer, partitions: Iterable[Partition], timeout_s: float = _REQUEST_S
) -> list[TopicPartition]:
    """The offsets that the consumer's group has committed, negative where there are none.

    With `isolation.level` at `read_committed` it waits for transactions that hold some back.

    Raises:
        KafkaException: they cannot be had, or not all of them.
    """
    asked = [TopicPartition(*partition) for partition in partitions]
    return checked(consumer.committed(asked, timeout_s)) if asked else []


def checked(found: list[TopicPartition]) -> list[TopicPartition]:
    """The answer, if it is one for each partition.

    Raises:
        KafkaException: it is not.
    """
    for each in found:
        if each.error is not None:
            raise KafkaException(each.error)
    return found


class GroupOffsets:
    """Asks for a group's committed offsets, through a consumer that does not join it.

    An `AdminClient` can be asked too, and then ends the process with a segmentation fault if the
    group's coordinator has just moved (librdkafka 2.16).
    """

    def __init__(self, settings: Settings, group: str) -> None:
        self._consumer = Consumer(
            {
                **client_properties(settings, f"{settings.worker.id}-progress"),
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
        found = committed(self._consumer, partitions)
        return {(each.topic, each.partition): each for each in found if each.offset >= 0}

    def close(self) -> None:
        """Let go of the connections."""
        self._consumer.close()


class GroupLag:
    """How many recipients the workers' group has not committed yet."""

    def __init__(self, settings: Settings, admin: AdminClient) -> None:
        topic = settings.topics.recipients
        self._admin = admin
        self._committed = GroupOffsets(settings, settings.kafka.group_id)
        numbers = partitions_of(admin, [topic]).get(topic, [])
        self._partitions = [(topic, number) for number in numbers]

    def measure(self) -> int | None:
        """None while Kafka does not answer."""
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
    """The generation in a consumer's group metadata; negative while it is no member of its group.

    A broker takes offsets of metadata with a negative one from anybody, fenced or not.
    """
    if not isinstance(metadata, bytes) or len(metadata) < _GENERATION.stop:
        return -1
    return int.from_bytes(metadata[_GENERATION], sys.byteorder, signed=True)
