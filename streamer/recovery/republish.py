"""Writing input records again: each source gets one copy, however often it is killed and repeated.

A run first fences the run of its kind before it, then reads which sources have a copy already,
and then writes the others. So of whatever was written before, each copy is either committed, and
found, or never happened.
"""

from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple

from streamer.kafka.reading import Reader, Stored
from streamer.kafka.writing import Checkpoint, FencedWriter, Outgoing, chunked
from streamer.model import marks
from streamer.model.record import Coordinates, Headers
from streamer.recovery.copies import Marked
from streamer.settings import Settings


class Copy(NamedTuple):
    """A record to be written again.

    Attributes:
        source: the record that it repeats.
        original: gives it its key and its own headers.
        headers: come after those, and after the one that names the source.
    """

    source: Coordinates
    original: Stored
    value: bytes | None
    headers: Headers


Due = Callable[[Marked], Iterator[Copy]]
"""Makes the copies that are due, when it is known of which sources there are some already."""


class Republisher:
    """Writes records to the recipients' topic again, in the partitions of their sources.

    Args:
        name: of the command. It makes the transactional id, by which a run fences another.
        header: names, in a copy, the source that it repeats.
    """

    def __init__(self, settings: Settings, reader: Reader, name: str, header: str) -> None:
        self._settings = settings
        self._reader = reader
        self._name = name
        self._header = header

    def plan(self, sources: Collection[Coordinates], due: Due) -> Iterator[Copy]:
        """The copies that `run` would write. A run that is under way is not disturbed.

        Raises:
            ReadError: a topic cannot be read.
            KafkaException: Kafka cannot be used.
        """
        if sources:
            yield from due(self._look_back(sources))

    def run(
        self, sources: Collection[Coordinates], due: Due, checkpoint: Checkpoint
    ) -> Iterator[tuple[Outgoing, bool]]:
        """Write the copies; yields each one that is done with, and whether it was written.

        One that was not was refused by Kafka for its size.

        Raises:
            ReadError: a topic cannot be read.
            WriteError: nothing more can be written; what was yielded is.
            KafkaException: Kafka cannot be used.
        """
        if not sources:
            return
        writer = FencedWriter(self._settings, self._name, self._reader.trouble, checkpoint)
        marked = self._look_back(sources)
        checkpoint("after_look_back")
        for chunk in chunked(self._outgoing(copy, marked) for copy in due(marked)):
            refused = writer.write(chunk)
            for record in chunk:
                yield record, record not in refused

    def _look_back(self, sources: Collection[Coordinates]) -> Marked:
        return Marked.by(self._header, self._reader, self._settings.topics.recipients, sources)

    def _outgoing(self, copy: Copy, marked: Marked) -> Outgoing:
        headers = [
            *marks.own_headers(copy.original.headers),
            (self._header, str(copy.source).encode()),
            *copy.headers,
        ]
        return Outgoing(marked.partition(copy.source), copy.original.key, copy.value, headers)
