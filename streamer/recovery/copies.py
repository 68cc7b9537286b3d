"""Which records were written again already: the input topic itself is the memory of that.

A record that is written again goes to the partition of its source, and names it in a header. So
that mark stands behind its source in the same partition, and can be looked for from there on,
whatever the clocks say. It is gone only if what stood behind the source is gone too.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from streamer.kafka.reading import Reader, Span
from streamer.model import marks
from streamer.model.record import Coordinates


@dataclass(frozen=True, slots=True)
class Marked:
    """What the marks say of some sources.

    Attributes:
        done: those that a mark names.
        unknown: those of which nobody can tell: Kafka has deleted what stood behind them.
    """

    topic: str
    partitions: int
    done: frozenset[Coordinates]
    unknown: frozenset[Coordinates]

    @classmethod
    def by(
        cls, header: str, reader: Reader, topic: str, sources: Iterable[Coordinates]
    ) -> "Marked":
        """Read the topic for marks in `header` that name one of the sources.

        Raises:
            ReadError: the topic cannot be read.
            KafkaException: Kafka cannot be used.
        """
        sources = frozenset(sources)
        # To the very end: a mark may stand behind a transaction that is still open.
        spans = {span.partition: span for span in reader.spans(topic, undecided=True)}
        starts: dict[int, int] = {}
        unknown = set()
        for source in sources:
            partition, start = _from(source, topic, len(spans))
            starts[partition] = min(start, starts.get(partition, start))
            if start < spans[partition].start:
                unknown.add(source)
        read = [
            Span(partition, max(start, spans[partition].start), spans[partition].end)
            for partition, start in starts.items()
        ]
        done = set()
        for stored in reader.read(topic, read, "what was done before"):
            named = marks.parse_coordinates(stored.words.get(header, ""))
            if named in sources:
                done.add(named)
        return cls(topic, len(spans), frozenset(done), frozenset(unknown - done))

    def covers(self, source: Coordinates) -> bool:
        """Whether the source stands in the topic."""
        return source.topic == self.topic and source.partition < self.partitions

    def partition(self, source: Coordinates) -> int:
        """Where the record that repeats the source has to be written to."""
        return _from(source, self.topic, self.partitions)[0]


def _from(source: Coordinates, topic: str, partitions: int) -> tuple[int, int]:
    """The partition for the source's marks, and the offset from which on they can stand there."""
    if source.topic == topic and source.partition < partitions:
        return source.partition, source.offset + 1
    # It comes from a topic that was in use before: its marks can be anywhere in theirs.
    return source.partition % partitions, 0
