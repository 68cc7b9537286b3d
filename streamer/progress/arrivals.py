"""Reading the topics as their records come."""

import logging
from collections.abc import Mapping

from confluent_kafka import KafkaError, Message

from streamer.errors import StreamerError
from streamer.kafka.offsets import Partition
from streamer.kafka.properties import reader_properties
from streamer.kafka.reading import PartitionReader, is_permanent
from streamer.logs import client_logger
from streamer.progress.fold import Chunk, Cursor, Place
from streamer.settings import Settings

logger = logging.getLogger(__name__)


class ProjectionError(StreamerError):
    """The topics cannot be counted; the message says why and what to do."""


class Arrivals:
    """Reads each place from its position on, each record once."""

    def __init__(self, settings: Settings) -> None:
        self._places: dict[Partition, Place] = {}
        properties = reader_properties(
            settings,
            f"{settings.worker.id}-progress",
            f"{settings.kafka.group_id}.progress",  # asked for, and never joined
            read_ahead_kb=2_048,
            fetch_bytes=131_072,
        )
        self._reader = PartitionReader(
            properties, 500, 0.1, on_error=report, logger=client_logger("progress")
        )

    @property
    def positions(self) -> dict[Place, int]:
        """The end of what was read, of each place that is read."""
        return {self._places[each]: at for each, at in self._reader.positions.items()}

    def start(self, positions: Mapping[Place, int]) -> None:
        """Read further places, from these positions; those that are read already go on."""
        self._places |= {(place.topic, place.partition): place for place in positions}
        self._reader.start({(place.topic, place.partition): at for place, at in positions.items()})

    def read(self) -> dict[Place, Chunk]:
        """What came; waits a moment if nothing did.

        Raises:
            ProjectionError: a topic cannot be read, or is not the one that was read before.
        """
        read: dict[Place, list[Message]] = {}
        ends: dict[Place, int] = {}
        for seen in self._reader.read():
            place = self._places[seen.topic, seen.partition]
            if seen.offset < seen.start:
                raise ProjectionError(
                    f"topic {place.topic}, partition {place.partition} begins anew at "
                    f"{seen.offset}, though it was counted up to {seen.start}: it was "
                    f"created again. Count everything again: streamer project --rebuild"
                )
            if seen.message is not None:
                read.setdefault(place, []).append(seen.message)
            ends[place] = seen.end
        return {place: Chunk(read.get(place, []), end) for place, end in ends.items()}

    def close(self) -> None:
        """Read no more."""
        self._reader.close()


def report(error: KafkaError) -> None:
    """Take an error that stands in a record's place: most pass.

    Raises:
        ProjectionError: this one does not.
    """
    if is_permanent(error):
        raise ProjectionError(f"the topics cannot be read: {error.str()}")
    logger.warning("Kafka reports an error", extra={"error": error.str()})


def arrival_places(topics: Mapping[Cursor, str], partitions: Mapping[str, list[int]]) -> set[Place]:
    """Every place that is read as records come."""
    return {
        Place(cursor, topic, partition)
        for cursor, topic in topics.items()
        for partition in partitions.get(topic, ())
    }
