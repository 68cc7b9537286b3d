"""Reading the topics as their records come."""

import logging
from collections.abc import Mapping

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from streamer.errors import StreamerError
from streamer.logs import client_logger
from streamer.progress.fold import Chunk, Cursor, Place
from streamer.progress.kafka import consumer_config
from streamer.settings import Settings

logger = logging.getLogger(__name__)

_MOST_RECORDS = 5_000
_MOST_BYTES = 4_000_000
_PORTION = 500
_WAIT_S = 0.1


class ProjectionError(StreamerError):
    """The topics cannot be counted; the message says why and what to do."""


class Arrivals:
    """Reads each place from its position on, each record once.

    Attributes:
        positions: the end of what was read, of each place that is read.
    """

    def __init__(self, settings: Settings) -> None:
        self.positions: dict[Place, int] = {}
        self._places: dict[tuple[str, int], Place] = {}
        self._consumer = Consumer(consumer_config(settings), logger=client_logger("progress"))

    def start(self, positions: Mapping[Place, int]) -> None:
        """Read further places, from these positions; those that are read already go on."""
        new = {place: at for place, at in positions.items() if place not in self.positions}
        if not new:
            return
        self.positions |= new
        self._places |= {(place.topic, place.partition): place for place in new}
        self._consumer.incremental_assign(
            [TopicPartition(place.topic, place.partition, at) for place, at in new.items()]
        )

    def read(self) -> dict[Place, Chunk]:
        """What came; waits a moment if nothing did.

        Raises:
            ProjectionError: a topic cannot be read, or is not the one that was read before.
        """
        read: dict[Place, list[Message]] = {}
        ends: dict[Place, int] = {}
        count = size = 0
        while count < _MOST_RECORDS and size < _MOST_BYTES:
            messages = self._consumer.consume(_PORTION, 0.0 if count else _WAIT_S)
            if not messages:
                break
            for message in messages:
                place = self._placed(message)
                if place is None:
                    continue
                offset = message.offset() or 0
                if offset < self.positions[place]:
                    raise ProjectionError(
                        f"topic {place.topic}, partition {place.partition} begins anew at "
                        f"{offset}, though it was counted up to {self.positions[place]}: it was "
                        f"created again. Count everything again: streamer project --rebuild"
                    )
                if message.error() is None:
                    read.setdefault(place, []).append(message)
                    size += len(message.value() or b"")
                    offset += 1
                self.positions[place] = ends[place] = offset
            count += len(messages)
        return {place: Chunk(read.get(place, []), end) for place, end in ends.items()}

    def close(self) -> None:
        """Read no more."""
        self._consumer.close()

    def _placed(self, message: Message) -> Place | None:
        """Where a record stands, or the end of a partition; None for what is neither."""
        error = message.error()
        if error is not None and error.code() != KafkaError._PARTITION_EOF:
            report(error)
            return None
        return self._places.get((message.topic() or "", message.partition() or 0))


def report(error: KafkaError) -> None:
    """Take an error that stands in a record's place: most pass.

    Raises:
        ProjectionError: this one does not.
    """
    if error.fatal() or error.code() in (
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
    ):
        raise ProjectionError(f"the topics cannot be read: {error.str()}")
    logger.warning("Kafka reports an error", extra={"error": error.str()})


def arrival_places(topics: Mapping[Cursor, str], partitions: Mapping[str, list[int]]) -> set[Place]:
    """Every place that is read as records come."""
    return {
        Place(cursor, topic, partition)
        for cursor, topic in topics.items()
        for partition in partitions.get(topic, ())
    }
