"""Transactional writes.

The error of a failed call determines the state of the transaction:

- The error requires an abort, or the commit had not begun: the transaction is still `OPEN`. Abort
  it and write the same records again.
- The commit failed with a retriable error (a timeout, or the coordinator is moving): the outcome
  is unknown and the state is `COMMITTING`. Commit again. An abort would be rejected with
  `_CONFLICT` forever if the commit had begun.
- The error is fatal (the producer was fenced, for example), or the commit failed otherwise: the
  producer is `LOST`. Only another producer with the same transactional id can find out what was
  committed, and end the transaction that this one left open.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum, auto
from functools import partial
from typing import NotRequired, TypedDict, cast

from confluent_kafka import KafkaError, KafkaException, Message, Producer, TopicPartition

from streamer.kafka.properties import transactional_properties
from streamer.kafka.repeating import repeat
from streamer.model.record import Headers
from streamer.settings import Settings

Delivered = Callable[[KafkaError | None, Message | None], None]
"""Called with the error of each record that was not delivered; not called on success."""


class BatchRecord(TypedDict):
    """A record for `TransactionalProducer.produce_batch`, as the client library takes it."""

    value: bytes
    key: bytes | None
    callback: Delivered
    _error: NotRequired[KafkaError]


_CALL_TIMEOUT_S = 5.0
"""Limit for one call: a worker must keep polling."""
_ABORT_TIMEOUT_S = 1.0
"""Limit for one abort call, short since a worker must keep polling. After a timeout the abort
continues in the background, and the next call resumes it: repeating costs nothing but the wait.

An abort drops the queued messages, then waits for those in flight. Messages that fail in flight
because an earlier record was rejected are queued for a retry, so the abort waits for them until it
times out; the next call then drops them. A broker that stalls is waited for as well. Once that has
taken as long as the transaction timeout, the broker aborts the transaction itself, and fences this
producer with its next answer: an abort does not go on forever with a broker that answers."""
_INIT_PATIENCE_S = 25.0
_POLL_S = 0.1
# Errors of a record, or of its batch, rather than of the broker.
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
    """The state of a transactional producer; see the module docstring."""

    READY = auto()
    OPEN = auto()
    COMMITTING = auto()
    LOST = auto()


class TransactionalProducer:
    """A producer with a transactional id. Creating one fences its predecessor.

    Fencing also ends a transaction that the predecessor left open. An open transaction blocks
    readers of later records and of its group's offsets, so create the producer before reading
    either.

    Each method makes one time-limited call and raises KafkaException on failure; `state` then
    tells how to continue. `transaction` does this for callers that can block.

    Args:
        name: the suffix of the transactional id, see `transactional_properties`.
        patience_s: how long to retry initialisation. A new or restarted cluster needs time to
            elect a coordinator, which in turn needs time to end a predecessor's transaction.
        client: `logger` or `error_cb`, as the client library takes them.

    Raises:
        KafkaException: the brokers cannot be reached, or authorization failed.
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
            init = partial(self._producer.init_transactions, _CALL_TIMEOUT_S)
            repeat(init, patience_s, KafkaError.retriable)
        self.state = State.READY

    def refresh_metadata(self) -> None:
        """Refresh the metadata; required before writing to a new partition."""
        self._producer.list_topics(timeout=2 * _CALL_TIMEOUT_S)

    def begin(self) -> None:
        """Begin a transaction. The state must be `READY`."""
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
        """Queue a record.

        Args:
            on_delivery: called if the record is rejected, immediately by this client or later by
                the broker.

        Raises:
            KafkaException: the client rejected the record, or its queue is full.
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
        except BufferError:  # the client's queue is full
            raise KafkaException(KafkaError(KafkaError._QUEUE_FULL)) from None

    def produce_batch(self, topic: str, records: list[BatchRecord]) -> None:
        """Queue many records.

        Uses a single client call: every call releases the GIL, and reacquiring it from busy
        threads takes longer than the rest of the call.

        Raises:
            KafkaException: the client rejected a record.
        """
        if not records:
            return
        with self._watched():
            messages = cast(list[dict[str, object]], records)
            if self._producer.produce_batch(topic, messages) == len(records):
                return
            for record in records:
                error = record.get("_error")  # which the client adds
                if error is not None:
                    record["callback"](error, None)
                    raise KafkaException(error)

    def flush(self) -> None:
        """Wait until all records of the transaction are delivered, or one has failed.

        Raises:
            KafkaException: the first failure; later records of the partition fail as well.
        """
        with self._watched():
            while len(self._producer) and self._failure is None:
                self._producer.poll(_POLL_S)
        if self._failure is not None:
            raise KafkaException(self._failure)

    def send_offsets(self, offsets: list[TopicPartition], group_metadata: object) -> None:
        """Commit a group's offsets with the transaction.

        Args:
            group_metadata: a member's current metadata, by which the broker fences stale members.
        """
        with self._watched():
            self._producer.send_offsets_to_transaction(offsets, group_metadata, _CALL_TIMEOUT_S)

    def commit(self) -> None:
        """Commit the transaction, or resume committing. Must be `OPEN` or `COMMITTING`."""
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
        """Abort the transaction, or resume aborting. The state must be `OPEN`."""
        if self.state is not State.OPEN:
            raise AssertionError(f"abort() called in state {self.state.name}")
        with self._watched():
            self._producer.abort_transaction(_ABORT_TIMEOUT_S)
        self.state = State.READY

    @contextmanager
    def transaction(self, patience_s: float = 0.0) -> Iterator[None]:
        """Commit everything produced inside the block, or abort if anything fails.

        Args:
            patience_s: how long to retry the commit or the abort.

        Raises:
            KafkaException: if the state is `READY`, the cause of the abort; otherwise the outcome
                is unknown and this producer is unusable.
        """
        self.begin()
        try:
            yield
            repeat(self.commit, patience_s, KafkaError.retriable)
        except KafkaException:
            if self.state is State.OPEN:
                repeat(self.abort, patience_s, KafkaError.retriable)
            raise

    @contextmanager
    def _watched(self) -> Iterator[None]:
        try:
            yield
        except KafkaException as exception:
            if exception.args[0].fatal():
                self.state = State.LOST
            self._producer.poll(0)  # serve pending callbacks
            raise

    def _note_failure(self, error: KafkaError | None, message: Message | None) -> None:
        del message
        if error is not None and self._failure is None:
            self._failure = error


def is_fenced(error: KafkaError) -> bool:
    """Whether another producer with the same transactional id replaced this one."""
    return error.code() in _FENCED


def describe_loss(error: KafkaError) -> str:
    """Return a readable explanation of why a client became unusable."""
    said = f"{error.str()} ({error.name()})"
    if is_fenced(error):
        return (
            f"the producer was fenced by another worker with the same worker.id, or by a broker "
            f"that aborted its transaction: {said}"
        )
    if error.code() in _OUT_OF_STEP:
        return f"the broker's transaction state differs, as after a broker crash: {said}"
    return f"the Kafka client is unusable: {said}"


def is_refused(error: KafkaError) -> bool:
    """Whether the error is permanent for the record: a retry would be rejected again."""
    return error.code() in _REFUSALS
