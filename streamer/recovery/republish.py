"""Copying input records, exactly one copy per source, even if interrupted and repeated.

A run first fences earlier runs of its kind, then finds the sources that already have a copy, and
then copies the others. So every earlier copy is either committed and found, or aborted.
"""

from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple

from streamer.kafka.stored import Reader, StoredRecord
from streamer.kafka.writing import Checkpoint, Outgoing, TransactionalWriter, chunked
from streamer.model import record_headers
from streamer.model.record import Headers, RecordId
from streamer.recovery.copies import ExistingCopies
from streamer.settings import Settings


class RecordCopy(NamedTuple):
    """A copy to write.

    Attributes:
        source: the input record that it repeats.
        original: provides the key and the producer's headers.
        value: the value.
        headers: further headers, added after the one that names the source.
    """

    source: RecordId
    original: StoredRecord
    value: bytes | None
    headers: Headers


_CHUNK_BYTES = 500_000
"""Bytes in a transaction: a slow link must carry them before the broker ends it, after
`TRANSACTION_TIMEOUT_MS`."""

Due = Callable[[ExistingCopies], Iterator[RecordCopy]]
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

    def plan(self, sources: Collection[RecordId], due: Due) -> Iterator[RecordCopy]:
        """Yield the copies that `run` would write. Does not disturb a concurrent run.

        Raises:
            ReadError: a topic cannot be read.
            KafkaException: Kafka cannot be used.
        """
        if sources:
            yield from due(self._look_back(sources))

    def run(
        self, sources: Collection[RecordId], due: Due, checkpoint: Checkpoint
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
        writer = TransactionalWriter(
            self._settings, self._name, self._reader.kafka_errors, checkpoint
        )
        copies = self._look_back(sources)
        checkpoint("after_look_back")
        outgoing = (self._outgoing(copy, copies) for copy in due(copies))
        for chunk in chunked(outgoing, max_bytes=_CHUNK_BYTES):
            yield from writer.write(chunk)

    def _look_back(self, sources: Collection[RecordId]) -> ExistingCopies:
        return ExistingCopies.find(
            self._header, self._reader, self._settings.topics.recipients, sources
        )

    def _outgoing(self, copy: RecordCopy, copies: ExistingCopies) -> Outgoing:
        headers = [
            *record_headers.user_headers(copy.original.headers),
            (self._header, str(copy.source).encode()),
            *copy.headers,
        ]
        return Outgoing(copies.partition(copy.source), copy.original.key, copy.value, headers)
