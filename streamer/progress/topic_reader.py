"""Reading the topics continuously."""

import logging
from collections.abc import Mapping

from confluent_kafka import KafkaError, Message

from streamer.errors import StreamerError
from streamer.kafka.offsets import Partition
from streamer.kafka.properties import reader_properties
from streamer.kafka.reading import PartitionReader, is_permanent
from streamer.logs import client_logger
from streamer.progress.fold import Chunk, Cursor, Stream
from streamer.settings import Settings

logger = logging.getLogger(__name__)


class ProjectionError(StreamerError):
    """The topics cannot be counted; the message says why and how to fix it."""


class TopicReader:
    """Reads each cursor from its position, each record once."""

    def __init__(self, settings: Settings) -> None:
        self._cursors: dict[Partition, Cursor] = {}
        properties = reader_properties(
            settings,
            f"{settings.worker.id}-progress",
            f"{settings.kafka.group_id}.progress",  # required by the client; never joined
            read_ahead_kb=2_048,
            fetch_bytes=131_072,
        )
        self._reader = PartitionReader(
            properties, 500, 0.1, on_error=report, logger=client_logger("progress")
        )

    @property
    def positions(self) -> dict[Cursor, int]:
        """The next offset to read, by cursor."""
        return {self._cursors[each]: at for each, at in self._reader.positions.items()}

    def start(self, positions: Mapping[Cursor, int]) -> None:
        """Start reading more cursors from these positions; others continue."""
        self._cursors |= {(cursor.topic, cursor.partition): cursor for cursor in positions}
        self._reader.start({(place.topic, place.partition): at for place, at in positions.items()})

    def read(self) -> dict[Cursor, Chunk]:
        """Return newly read records, waiting briefly if there are none.

        Raises:
            ProjectionError: a topic cannot be read, or was recreated.
        """
        read: dict[Cursor, list[Message]] = {}
        ends: dict[Cursor, int] = {}
        for seen in self._reader.read():
            cursor = self._cursors[seen.topic, seen.partition]
            if seen.offset < seen.start:
                raise ProjectionError(
                    f"topic {cursor.topic}, partition {cursor.partition} starts over at offset "
                    f"{seen.offset}, but was counted up to {seen.start}: the topic was "
                    f"recreated. Rebuild the counts: streamer project --rebuild"
                )
            if seen.message is not None:
                read.setdefault(cursor, []).append(seen.message)
            ends[cursor] = seen.end
        return {place: Chunk(read.get(place, []), end) for place, end in ends.items()}

    def close(self) -> None:
        """Stop reading."""
        self._reader.close()


def report(error: KafkaError) -> None:
    """Log an error returned by the consumer; most are transient.

    Raises:
        ProjectionError: the error is permanent.
    """
    if is_permanent(error):
        raise ProjectionError(f"cannot read the topics: {error.str()}")
    logger.warning("Kafka reports an error", extra={"error": error.str()})


def topic_cursors(topics: Mapping[Stream, str], partitions: Mapping[str, list[int]]) -> set[Cursor]:
    """Return a cursor for every partition of the topics."""
    return {
        Cursor(stream, topic, partition)
        for stream, topic in topics.items()
        for partition in partitions.get(topic, ())
    }
