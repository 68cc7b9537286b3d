"""Finding which records were already copied; the input topic itself is the record of that.

A copy goes to the partition of its source and names the source in a header. So it follows the
source in the same partition and can be searched for from there, independent of clocks. A copy can
only be missing if Kafka has deleted the records right after the source, or the topic was created
anew.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from streamer.kafka.matching import by_header
from streamer.kafka.stored import PartitionRange, Reader
from streamer.model import record_headers
from streamer.model.outcome import Names, read_names
from streamer.model.record import RecordId


class FoundCopy(NamedTuple):
    """A copy in the input topic, and the recipient it names."""

    record_id: RecordId
    names: Names


@dataclass(frozen=True, slots=True)
class ExistingCopies:
    """Which of some sources have copies.

    Attributes:
        topic: the input topic.
        spans: the offsets that each of its partitions holds.
        made: the copies found, by source.
        unknown: sources that may have a copy: Kafka has deleted records following the source, or
            the partition ends before the source, so it is of a topic that was created anew.
    """

    topic: str
    spans: Mapping[int, PartitionRange]
    made: Mapping[RecordId, list[FoundCopy]]
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
            partition = _partition(source, topic, spans)
            span = spans[partition]
            # Copies follow their source. One in another topic, or beyond the end, gives no bound.
            start = source.offset + 1 if _is_inside(source, topic, spans) else 0
            starts[partition] = min(start, starts.get(partition, start))
            if start < span.start or (source.topic == topic and source.offset >= span.end):
                unknown.add(source)
        read = [
            PartitionRange(partition, max(start, spans[partition].start), spans[partition].end)
            for partition, start in starts.items()
        ]
        made: dict[RecordId, list[FoundCopy]] = {}
        for stored in reader.read(topic, read, "what was done before", by_header(header)):
            named = record_headers.parse_record_id(stored.decoded_headers.get(header, ""))
            if named is not None and named in sources:
                copy = FoundCopy(stored.record_id, read_names(stored.value))
                made.setdefault(named, []).append(copy)
        return cls(topic, spans, made, frozenset(unknown - made.keys()))

    def covers(self, source: RecordId) -> bool:
        """Whether the topic holds these coordinates."""
        span = self.spans.get(source.partition)
        return (
            source.topic == self.topic
            and span is not None
            and span.start <= source.offset < span.end
        )

    def partition(self, source: RecordId) -> int:
        """Return the partition to which a copy of the source must be written."""
        return _partition(source, self.topic, self.spans)


def _is_inside(source: RecordId, topic: str, spans: Mapping[int, PartitionRange]) -> bool:
    """Whether the source is in this topic, or was before Kafka deleted it."""
    span = spans.get(source.partition)
    return source.topic == topic and span is not None and source.offset < span.end


def _partition(source: RecordId, topic: str, partitions: Collection[int]) -> int:
    """Return the source's own partition, or one for a source in a formerly used topic."""
    if source.topic == topic and source.partition in partitions:
        return source.partition
    return source.partition % len(partitions)
