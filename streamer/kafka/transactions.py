"""Writing in transactions: one class, with the rules of all of them.

What became of a transaction is told by the error of the call that failed:

- it requires an abort, or the commit had not begun: the transaction is still `OPEN`. Abort it,
  and write the same again.
- the commit failed, and is retriable (it timed out, or the coordinator moves): nobody knows how
  the transaction ended, it is `COMMITTING`. Commit again: an abort instead would be refused for
  ever, with `_CONFLICT`, if the commit had begun.
- it is fatal, as of a producer that was fenced, or a commit failed otherwise: the producer is
  `LOST`. Only another client under the same id finds out, and ends what this one left open.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import Enum, auto
from functools import partial

from confluent_kafka import KafkaError, KafkaException, Message, Producer, TopicPartition

from streamer.kafka.properties import transactional_properties
from streamer.model.record import Headers
from streamer.settings import Settings

Delivered = Callable[[KafkaError | None, Message | None], None]
"""Is told that a record was not delivered, and why; nothing of those that were."""

_CALL_TIMEOUT_S = 5.0
"""Of one call: a worker has to go on polling."""
_ABORT_TIMEOUT_S = 1.0
"""Of a call that aborts. It drops what waits to be sent, then waits for what is in flight. What
fails there, as it came behind a record that was refused, waits to be sent again: for the abort,
which waits for it, until the call has timed out and the next one drops it, too. If that took as
long as a transaction may last, the broker would abort it, and fence this producer."""
_INIT_PATIENCE_S = 25.0
_RETRY_S = 0.2
_POLL_S = 0.1
# What is said of a record, or of those that went to the broker together: not of the broker.
_REFUSALS = (
    KafkaError.MSG_SIZE_TOO_LARGE,
    KafkaError.INVALID_MSG_SIZE,
    KafkaError.RECORD_LIST_TOO_LARGE,
    KafkaError.INVALID_TIMESTAMP,
    KafkaError.POLICY_VIOLATION,
    KafkaError.INVALID_RECORD,
)
_FENCED = (KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH, KafkaError.PRODUCER_FENCED)
_OUT_OF_STEP = (
    KafkaError.INVALID_TXN_STATE,
    KafkaError.INVALID_PRODUCER_ID_MAPPING,
    KafkaError._STATE,
    KafkaError._CONFLICT,
)


class State(Enum):
    """How a transactional producer stands; see the module."""

    READY = auto()
    OPEN = auto()
    COMMITTING = auto()
    LOST = auto()


class TransactionalProducer:
    """A producer under a transactional id. Making one fences the one before it.

    A transaction that the other left open is ended by that. Until then it holds back what was
    written behind it, and the offsets of its group: so this comes before reading either.

    Each method makes one call, bounded in time, and says with a KafkaException that it failed;
    `state` then says what to do. `transaction` does it for those who can wait.

    Args:
        name: of its transactional id, see `transactional_properties`.
        patience_s: how long initialising is tried again: a new or restarted cluster takes its
            time to have a coordinator, and that one to end the transaction of another.
        client: `logger` or `error_cb`, as the client library takes them.

    Raises:
        KafkaException: the brokers cannot be reached, or do not allow it.
    """

    def __init__(
        self,
        settings: Settings,
        client_id: str,
        name: str,
        patience_s: float = _INIT_PATIENCE_S,
        **client: object,
    ) -> None:
        self._failure: KafkaError | None = None
        self._producer = Producer(transactional_properties(settings, client_id, name), **client)
        self.state = State.LOST
        with self._watched():
            _repeat(partial(self._producer.init_transactions, _CALL_TIMEOUT_S), patience_s)
        self.state = State.READY

    def refresh_metadata(self) -> None:
        """Learn of new partitions: it has to know of one before it writes there."""
        self._producer.list_topics(timeout=2 * _CALL_TIMEOUT_S)

    def begin(self) -> None:
        """Begin a transaction; this must be `READY`."""
        self._failure = None
        with self._watched():
            self._producer.begin_transaction()
        self.state = State.OPEN

    def produce(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None,
        partition: int = -1,
        headers: Headers | None = None,
        on_delivery: Delivered | None = None,
    ) -> None:
        """Hand a record over.

        Args:
            on_delivery: is told if it is refused, by this client or, maybe later, by the broker.
        """
        delivered = on_delivery or self._note_failure
        try:
            with self._watched():
                self._producer.produce(
                    topic, value, key, partition, on_delivery=delivered, headers=headers or []
                )
        except KafkaException as exception:
            delivered(exception.args[0], None)
            raise
        except BufferError:  # the client's queue is full: what is in it has to go first
            raise KafkaException(KafkaError(KafkaError._QUEUE_FULL)) from None

    def produce_batch(
        self, topic: str, records: Sequence[tuple[bytes, bytes | None, Delivered]]
    ) -> None:
        """Hand over many records, each a value, a key, and what is told if it is refused.

        In one call: each call lets go of the interpreter's lock, and to have it back from busy
        threads takes longer than the rest of it.
        """
        messages: list[dict[str, object]] = [
            {"value": value, "key": key, "callback": delivered} for value, key, delivered in records
        ]
        with self._watched():
            self._producer.produce_batch(topic, messages)
            for message, (_, _, delivered) in zip(messages, records, strict=True):
                error = message.get("_error")
                if isinstance(error, KafkaError):
                    delivered(error, None)
                    raise KafkaException(error)

    def flush(self) -> None:
        """Wait until every record of the transaction has arrived, or one has failed.

        Raises:
            KafkaException: the first failure: what follows in the partition fails with it.
        """
        while len(self._producer) and self._failure is None:
            self._producer.poll(_POLL_S)
        if self._failure is not None:
            raise KafkaException(self._failure)

    def send_offsets(self, offsets: list[TopicPartition], group_metadata: object) -> None:
        """Commit a group's offsets with the transaction.

        Args:
            group_metadata: a member's, taken just before, for the broker to fence it by.
        """
        with self._watched():
            self._producer.send_offsets_to_transaction(offsets, group_metadata, _CALL_TIMEOUT_S)

    def commit(self) -> None:
        """Commit the transaction, or go on with that; this must be `OPEN` or `COMMITTING`."""
        self.state = State.COMMITTING
        with self._watched():
            try:
                self._producer.commit_transaction(_CALL_TIMEOUT_S)
            except KafkaException as exception:
                if exception.args[0].txn_requires_abort():
                    self.state = State.OPEN
                elif not exception.args[0].retriable():
                    self.state = State.LOST
                raise
        self.state = State.READY

    def abort(self) -> None:
        """Abort the transaction, or go on with that; this must be `OPEN`."""
        if self.state is not State.OPEN:
            raise AssertionError(f"an abort while the transaction is {self.state.name}")
        with self._watched():
            self._producer.abort_transaction(_ABORT_TIMEOUT_S)
        self.state = State.READY

    @contextmanager
    def transaction(self, patience_s: float = 0.0) -> Iterator[None]:
        """Write what is produced inside, all of it or, if anything fails, nothing.

        Args:
            patience_s: how long a commit or an abort is called again.

        Raises:
            KafkaException: why it was aborted, if this is `READY` then; otherwise nobody knows
                how it ended, and this producer is of no more use.
        """
        self.begin()
        try:
            yield
            _repeat(self.commit, patience_s)
        except KafkaException:
            if self.state is State.OPEN:
                _repeat(self.abort, patience_s)
            raise

    @contextmanager
    def _watched(self) -> Iterator[None]:
        try:
            yield
        except KafkaException as exception:
            if exception.args[0].fatal():
                self.state = State.LOST
            self._producer.poll(0)  # lets the client tell what it has not told yet
            raise

    def _note_failure(self, error: KafkaError | None, message: Message | None) -> None:
        del message
        if error is not None and self._failure is None:
            self._failure = error


def is_fenced(error: KafkaError) -> bool:
    """Whether another producer under the same id took this one's place."""
    return error.code() in _FENCED


def describe_loss(error: KafkaError) -> str:
    """What happened to a client that is of no more use, for people."""
    said = f"{error.str()} ({error.name()})"
    if is_fenced(error):
        return (
            f"its producer was fenced, by another worker with the same worker.id or by a broker "
            f"that ended its transaction: {said}"
        )
    if error.code() in _OUT_OF_STEP:
        return f"a broker knows its transaction otherwise, as after a broker's death: {said}"
    return f"its Kafka client is of no more use: {said}"


def is_refused(error: KafkaError) -> bool:
    """Whether a record is refused for what it is: written again, it is refused again."""
    return error.code() in _REFUSALS


def _repeat(call: Callable[[], None], patience_s: float) -> None:
    """Make a call until it succeeds, cannot, or has failed for so long."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            return call()
        except KafkaException as exception:
            # A coordinator that moves or loads, or one that ends another's transaction.
            if not exception.args[0].retriable() or time.monotonic() >= deadline:
                raise
        time.sleep(_RETRY_S)
