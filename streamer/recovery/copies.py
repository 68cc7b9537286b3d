"""Finding which records were already copied; the input topic itself is the record of that.

A copy goes to the partition of its source and names the source in a header. So it follows the
source in the same partition and can be searched for from there, independent of clocks. A copy can
only be missing if Kafka has deleted the records right after the source.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from streamer.kafka.reading import PartitionRange, Reader
from streamer.model import record_headers
from streamer.model.record import RecordId


@dataclass(frozen=True, slots=True)
class ExistingCopies:
    """Which of some sources have copies.

    Attributes:
        topic: the input topic.
        partitions: its number of partitions.
        done: sources that have a copy.
        unknown: sources that may have one, as Kafka has deleted records following the source.
    """

    topic: str
    partitions: int
    done: frozenset[RecordId]
    unknown: frozenset[RecordId]

    @classmethod
    def find(
        cls, header: str, reader: Reader, topic: str, sources: Iterable[RecordId]
    ) -> "ExistingCopies":
        """Search the topic for copies of the sources, named in `header`.

        Raises:
            ReadError: the topic cannot be read.
            KafkaException: Kafka cannot be used.
        """
        sources = frozenset(sources)
        # Up to the very end: a copy may follow a transaction that is still open.
        spans = {
            span.partition: span for span in reader.spans(topic, include_open_transactions=True)
        }
        starts: dict[int, int] = {}
        unknown = set()
        for source in sources:
            partition, start = _from(source, topic, len(spans))
            starts[partition] = min(start, starts.get(partition, start))
            if start < spans[partition].start:
                unknown.add(source)
        read = [
            PartitionRange(partition, max(start, spans[partition].start), spans[partition].end)
            for partition, start in starts.items()
        ]
        done = set()
        for stored in reader.read(topic, read, "what was done before"):
            named = record_headers.parse_record_id(stored.decoded_headers.get(header, ""))
            if named in sources:
                done.add(named)
        return cls(topic, len(spans), frozenset(done), frozenset(unknown - done))

    def covers(self, source: RecordId) -> bool:
        """Whether the source is in this topic."""
        return source.topic == self.topic and source.partition < self.partitions

    def partition(self, source: RecordId) -> int:
        """Return the partition to which a copy of the source must be written."""
        return _from(source, self.topic, self.partitions)[0]


def _from(source: RecordId, topic: str, partitions: int) -> tuple[int, int]:
    """Return the partition of the source's copies, and the lowest offset they can have."""
    if source.topic == topic and source.partition < partitions:
        return source.partition, source.offset + 1
    # The source is in a formerly used topic, so its copies can be anywhere in the partition.
    return source.partition % partitions, 0
