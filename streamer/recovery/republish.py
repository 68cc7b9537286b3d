"""Copying input records, exactly one copy per source, even if interrupted and repeated.

A run first fences earlier runs of its kind, then finds the sources that already have a copy, and
then copies the others. So every earlier copy is either committed and found, or aborted.
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
    """A copy to write.

    Attributes:
        source: the input record that it repeats.
        original: provides the key and the producer's headers.
        value: the value.
        headers: further headers, added after the one that names the source.
    """

    source: Coordinates
    original: Stored
    value: bytes | None
    headers: Headers


Due = Callable[[Marked], Iterator[Copy]]
"""Makes the missing copies, given the existing ones."""


class Republisher:
    """Writes copies to the recipients topic, in the partitions of their sources.

    Args:
        settings: the settings.
        reader: reads the topics.
        name: the command's name, used in the transactional id by which runs fence each other.
        header: the header that names the source in a copy.
    """

    def __init__(self, settings: Settings, reader: Reader, name: str, header: str) -> None:
        self._settings = settings
        self._reader = reader
        self._name = name
        self._header = header

    def plan(self, sources: Collection[Coordinates], due: Due) -> Iterator[Copy]:
        """Yield the copies that `run` would write. Does not disturb a concurrent run.

        Raises:
            ReadError: a topic cannot be read.
            KafkaException: Kafka cannot be used.
        """
        if sources:
            yield from due(self._look_back(sources))

    def run(
        self, sources: Collection[Coordinates], due: Due, checkpoint: Checkpoint
    ) -> Iterator[tuple[Outgoing, bool]]:
        """Write the copies, and yield each one with whether it was written.

        Copies that were not written were rejected by Kafka because of their size.

        Raises:
            ReadError: a topic cannot be read.
            WriteError: nothing more can be written; copies yielded before are written.
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
