"""Reading the progress topic continuously."""

import logging

from confluent_kafka import Consumer, KafkaError, Message
from confluent_kafka.admin import AdminClient

from streamer.errors import StreamerError
from streamer.kafka.metadata import partitions_of
from streamer.kafka.offsets import Partition
from streamer.kafka.reading import PartitionReader, is_permanent
from streamer.kafka.shared import WAIT_S, ConsumerShare
from streamer.progress.fold import Chunk
from streamer.settings import TopicSettings

logger = logging.getLogger(__name__)


class ProjectionError(StreamerError):
    """The topic cannot be counted; the message says why and how to fix it."""


def make_reader(share: ConsumerShare) -> PartitionReader:
    """Create a reader of the progress topic."""
    return PartitionReader(share, 500, WAIT_S, _report)


def read_chunks(reader: PartitionReader) -> dict[Partition, Chunk]:
    """Return newly read records, waiting briefly if there are none.

    Raises:
        ProjectionError: the topic cannot be read, or was recreated.
    """
    read: dict[Partition, list[Message]] = {}
    ends: dict[Partition, int] = {}
    for seen in reader.read():
        partition = (seen.topic, seen.partition)
        if seen.offset < seen.start:
            raise ProjectionError(
                f"topic {seen.topic}, partition {seen.partition} starts over at offset "
                f"{seen.offset}, but was counted up to {seen.start}: the topic was recreated. "
                f"Rebuild the counts: streamer project --rebuild"
            )
        if seen.message is not None:
            read.setdefault(partition, []).append(seen.message)
        ends[partition] = seen.end
    return {partition: Chunk(read.get(partition, []), end) for partition, end in ends.items()}


def find_partitions(client: AdminClient | Consumer, topics: TopicSettings) -> list[Partition]:
    """Return the partitions of the progress topic.

    Raises:
        ProjectionError: it is missing, or the workers' input is.
        KafkaException: Kafka cannot be used.
    """
    needed = (topics.recipients, topics.progress)
    found = partitions_of(client, needed)
    if missing := [topic for topic in needed if topic not in found]:
        raise ProjectionError(
            f"missing topics: {', '.join(missing)}; create them with: streamer topics create"
        )
    return [(topics.progress, number) for number in found[topics.progress]]


def _report(error: KafkaError) -> None:
    """Log an error returned by the consumer; most are transient.

    Raises:
        ProjectionError: the error is permanent.
    """
    if is_permanent(error):
        raise ProjectionError(f"the progress topic cannot be read: {error.str()}")
    logger.warning("Kafka reports an error", extra={"error": error.str()})
