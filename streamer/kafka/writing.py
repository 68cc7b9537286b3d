"""Transactional writes of input records under a fixed id, so that only one command writes.

A new command fences a running one, whose transactions are then each either committed and readable
or aborted. A command that first fences, then reads what was already written, and then writes the
rest can therefore be killed at any point and repeated.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol, TypeVar, cast

from confluent_kafka import KafkaError, KafkaException

from streamer.errors import StreamerError
from streamer.kafka.error_log import KafkaErrorLog
from streamer.kafka.properties import COMMAND, TRANSACTION_TIMEOUT_MS
from streamer.kafka.transactions import State, TransactionalProducer, is_fenced
from streamer.model.record import Headers
from streamer.settings import Settings

CHUNK_RECORDS = 500
CHUNK_BYTES = 4_000_000

_PATIENCE_S = 60.0
_TRIES = 3

Checkpoint = Callable[[str], None]
"""Called with the name of each checkpoint reached; crash tests kill the process there."""


def no_checkpoint(name: str) -> None:
    """Ignore the checkpoint."""
    del name


class WriteError(StreamerError):
    """Writing failed. The message says why and how to continue."""


class Outgoing(NamedTuple):
    """A record to be written to the recipients topic."""

    partition: int
    key: bytes | None
    value: bytes | None
    headers: Headers

    @property
    def size(self) -> int:
        """The approximate size in bytes."""
        return len(self.value or b"") + len(self.key or b"")


class _HasSize(Protocol):
    @property
    def size(self) -> int: ...


Sized = TypeVar("Sized", bound=_HasSize)


class TransactionalWriter:
    """Writes to the recipients topic. Creating one fences its predecessor.

    Args:
        name: the purpose; the transactional id consists of the group id and this name.
        kafka_errors: receives the producer's background errors.

    Raises:
        KafkaException: the producer cannot be initialised.
    """

    def __init__(
        self, settings: Settings, name: str, kafka_errors: KafkaErrorLog, checkpoint: Checkpoint
    ) -> None:
        self._topic = settings.topics.recipients
        self._name = name
        self._checkpoint = checkpoint
        self._producer = TransactionalProducer(
            settings, COMMAND, name, _PATIENCE_S, error_cb=kafka_errors.note
        )
        checkpoint("after_fence")

    def write(self, records: Sequence[Outgoing]) -> Iterator[tuple[Outgoing, bool]]:
        """Write and commit the records, except those that are too large for the broker.

        Yields:
            Each record with whether it was written, as soon as that is certain.

        Raises:
            WriteError: another command has fenced this one, or writing keeps failing.
        """
        tries = _TRIES
        try:
            while (cause := self._write(records)) is not None:
                if cause.code() == KafkaError.MSG_SIZE_TOO_LARGE:
                    if len(records) == 1:
                        yield records[0], False
                        return
                    # The broker rejects the whole batch: find the offending record by bisection.
                    half = len(records) // 2
                    yield from self.write(records[:half])
                    yield from self.write(records[half:])
                    return
                # librdkafka may misnumber its messages once after an abort.
                tries -= 1
                if not tries:
                    raise self._explain(cause)
        except KafkaException as exception:
            raise self._explain(exception.args[0]) from None
        for record in records:
            yield record, True

    def _write(self, records: Sequence[Outgoing]) -> KafkaError | None:
        """Write the records in one transaction; return the error if it was aborted.

        Raises:
            KafkaException: this writer was fenced, or the outcome is unknown.
        """
        self._checkpoint("before_transaction")
        try:
            with self._producer.transaction(_PATIENCE_S):
                for record in records:
                    self._producer.produce(
                        self._topic, record.value, record.key, record.partition, record.headers
                    )
                self._producer.flush()
                self._checkpoint("inside_transaction")
        except KafkaException as exception:
            if self._producer.state is not State.READY:
                raise
            return cast(KafkaError, exception.args[0])
        self._checkpoint("after_transaction")
        return None

    def _explain(self, error: KafkaError) -> WriteError:
        if is_fenced(error):
            return WriteError(
                f"another command of this kind ({self._name}) was started and replaced this one, "
                f"or this one stood still for longer than {TRANSACTION_TIMEOUT_MS // 1000} s, as "
                f"on a slow link or a suspended machine; repeat it if none is running: it skips "
                f"what is written already"
            )
        return WriteError(
            f"{self._topic}: {error.str()}; the command is safe to repeat: it skips what it has "
            f"already written"
        )


def chunked(
    records: Iterable[Sized], limit: int = CHUNK_RECORDS, max_bytes: int = CHUNK_BYTES
) -> Iterator[list[Sized]]:
    """Split the records into lists of at most `limit` records and `max_bytes` bytes."""
    chunk: list[Sized] = []
    room = max_bytes
    for record in records:
        if chunk and (len(chunk) == limit or record.size > room):
            yield chunk
            chunk, room = [], max_bytes
        chunk.append(record)
        room -= record.size
    if chunk:
        yield chunk
