"""Writing input records in transactions under a fixed id, so that no two commands do it at once.

Whoever starts fences whoever was at it: of that one's transactions each is either committed, and
can be read, or never happened. So a command that first fences, then reads what was written
before, and then writes the rest, may be killed anywhere and repeated.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from confluent_kafka import KafkaError, KafkaException, Producer

from streamer.cli.common import KafkaTrouble
from streamer.model.record import Headers
from streamer.settings import Settings
from streamer.worker.kafka import producer_config

CHUNK_RECORDS = 500
CHUNK_BYTES = 4_000_000

_CALL_TIMEOUT_S = 10.0
_ABORT_TIMEOUT_S = 1.0
"""Of a call of `abort_transaction`. It drops what waits to be sent, then waits for what is in
flight. What fails there, as it came behind a record that was refused, waits to be sent again: for
the abort, which waits for it, until the call has timed out and the next one drops it, too. If
that took as long as a transaction may last, the broker would abort it, and fence this producer."""
_PATIENCE_S = 60.0
_RETRY_S = 0.2
_POLL_S = 0.1
_TRIES = 3

Checkpoint = Callable[[str], None]
"""Is told each named point that is passed; tests of crashes kill the process there."""


def no_checkpoint(name: str) -> None:
    """Nobody wants to know."""
    del name


class WriteError(RuntimeError):
    """Nothing more can be written; the message says why and what to do."""


class Outgoing(NamedTuple):
    """A record to be written to the recipients' topic."""

    partition: int
    key: bytes | None
    value: bytes | None
    headers: Headers

    @property
    def size(self) -> int:
        """About how many bytes it has."""
        return len(self.value or b"") + len(self.key or b"")


class FencedWriter:
    """Writes to the recipients' topic. Making one fences the one before it.

    Args:
        name: what it is for; the transactional id is made of it and the group's id.
        trouble: is told what the connection meets.

    Raises:
        KafkaException: Kafka cannot be used.
    """

    def __init__(
        self, settings: Settings, name: str, trouble: KafkaTrouble, checkpoint: Checkpoint
    ) -> None:
        self._topic = settings.topics.recipients
        self._name = name
        self._checkpoint = checkpoint
        self._failure: KafkaError | None = None
        self._producer = Producer(
            {
                **producer_config(settings),
                "client.id": "streamer-cli",
                "log_level": 0,
                "transactional.id": f"{settings.kafka.group_id}.{name}",
            },
            error_cb=trouble.note,
        )
        _patiently(self._producer.init_transactions)
        checkpoint("after_fence")

    def write(self, records: Sequence[Outgoing]) -> list[Outgoing]:
        """Write all the records or, of those that the broker refuses for their size, none.

        Returns those; the others are committed.

        Raises:
            WriteError: another command has fenced this one, or Kafka takes nothing.
        """
        tries = _TRIES
        try:
            while (cause := self._transaction(records)) is not None:
                if cause.code() == KafkaError.MSG_SIZE_TOO_LARGE:
                    if len(records) == 1:
                        return list(records)
                    # The broker refuses what arrives together: the guilty is found by halves.
                    half = len(records) // 2
                    return self.write(records[:half]) + self.write(records[half:])
                # After an abort librdkafka may number its messages wrongly, once.
                tries -= 1
                if not tries:
                    raise self._explain(cause)
        except KafkaException as exception:
            raise self._explain(exception.args[0]) from None
        return []

    def _transaction(self, records: Sequence[Outgoing]) -> KafkaError | None:
        """Write the records in one transaction; if it was aborted, returns why.

        Raises:
            KafkaException: this writer was fenced, or nobody knows how the transaction ended.
        """
        self._failure = None
        self._checkpoint("before_transaction")
        self._producer.begin_transaction()
        try:
            self._produce(records)
            if self._failure is None:
                self._checkpoint("inside_transaction")
                # When it times out nobody knows how it ended, so it is called again.
                _patiently(self._producer.commit_transaction)
        except KafkaException as exception:
            if exception.args[0].fatal():
                raise
            self._failure = exception.args[0]
        if self._failure is not None:
            _patiently(self._producer.abort_transaction, _ABORT_TIMEOUT_S)
        else:
            self._checkpoint("after_transaction")
        return self._failure

    def _produce(self, records: Sequence[Outgoing]) -> None:
        """Hand the records over, until all have arrived or one has failed."""
        for record in records:
            self._producer.produce(
                self._topic,
                record.value,
                record.key,
                record.partition,
                headers=record.headers,
                on_delivery=self._delivered,
            )
        while len(self._producer) and self._failure is None:
            self._producer.poll(_POLL_S)

    def _delivered(self, error: KafkaError | None, message: object) -> None:
        del message
        # Of several the first is the cause: what follows in the partition fails with it.
        if error is not None and self._failure is None:
            self._failure = error

    def _explain(self, error: KafkaError) -> WriteError:
        if error.code() in (
            KafkaError._FENCED,
            KafkaError.INVALID_PRODUCER_EPOCH,
            KafkaError.PRODUCER_FENCED,
        ):
            return WriteError(
                f"another command of this kind ({self._name}) was started meanwhile and goes on "
                f"in this one's place; wait for its end, then repeat this one if there is need"
            )
        return WriteError(
            f"{self._topic}: {error.str()}; to repeat the command is safe: it knows what is "
            f"written already"
        )


def _patiently(call: Callable[[float], None], timeout_s: float = _CALL_TIMEOUT_S) -> None:
    """Make a call of the transactional producer until it succeeds, or cannot."""
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            call(timeout_s)
        except KafkaException as exception:
            # A coordinator that moves or loads, or one that ends another's transaction.
            if not exception.args[0].retriable() or time.monotonic() > deadline:
                raise
            time.sleep(_RETRY_S)
        else:
            return


def chunked(records: Iterable[Outgoing]) -> Iterator[list[Outgoing]]:
    """The records in lists, each as large as a transaction should be."""
    chunk: list[Outgoing] = []
    room = CHUNK_BYTES
    for record in records:
        if chunk and (len(chunk) == CHUNK_RECORDS or record.size > room):
            yield chunk
            chunk, room = [], CHUNK_BYTES
        chunk.append(record)
        room -= record.size
    if chunk:
        yield chunk
