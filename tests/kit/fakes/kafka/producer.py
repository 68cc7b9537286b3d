"""The client library's transactional producer."""

import zlib
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import NamedTuple, TypeVar

from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # public, yet not re-exported
    ClusterMetadata,
)

from streamer.model.record import Headers
from tests.kit.fakes.kafka import errors
from tests.kit.fakes.kafka.cluster import BrokerError, FakeKafka, KafkaApi, NoAnswerError
from tests.kit.fakes.kafka.log import Partition, Stored

T = TypeVar("T")

Delivered = Callable[[KafkaError | None, Message | None], None]

_FENCED = (KafkaError.INVALID_PRODUCER_EPOCH, KafkaError.PRODUCER_FENCED)
_NO_ID = (KafkaError.INVALID_PRODUCER_ID_MAPPING, KafkaError.UNKNOWN_PRODUCER_ID)
_NEEDS_EPOCH = (*_NO_ID, KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER)
# From the handlers of responses in librdkafka's rdkafka_txnmgr.c and rdkafka_request.c.
_FATAL = {
    KafkaApi.INIT_PRODUCER_ID: (*_FENCED, KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED),
    KafkaApi.PRODUCE: (KafkaError.INVALID_PRODUCER_EPOCH,),
    KafkaApi.ADD_OFFSETS: (KafkaError.INVALID_PRODUCER_EPOCH, KafkaError.INVALID_TXN_STATE),
    KafkaApi.COMMIT_OFFSETS: (
        KafkaError.INVALID_PRODUCER_EPOCH,
        KafkaError.INVALID_TXN_STATE,
        KafkaError.INVALID_PRODUCER_ID_MAPPING,
    ),
    KafkaApi.END_TRANSACTION: (
        *_FENCED,
        KafkaError.INVALID_TXN_STATE,
        KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    ),
}
_LOCAL_S = 0.01


class _State(StrEnum):
    """librdkafka's states of a transaction, as its errors name them."""

    INIT = "Init"
    READY = "Ready"
    OPEN = "InTransaction"
    COMMITTING = "CommittingTransaction"
    ABORTING = "AbortingTransaction"
    FAILED = "AbortableError"
    FATAL = "FatalError"


class _Queued(NamedTuple):
    partition: Partition
    record: Stored
    delivered: Delivered | None


class FakeProducer:
    """A transactional producer. Records are sent when a call serves the queue: `poll`, `flush`,
    `commit_transaction`; librdkafka may send them before."""

    def __init__(self, kafka: FakeKafka, config: Mapping[str, object]) -> None:
        self._kafka = kafka
        self._name = str(config["transactional.id"])
        self._timeout_s = float(str(config.get("transaction.timeout.ms", 60_000))) / 1_000
        self._limit = int(str(config.get("message.max.bytes", 1_000_000)))
        self._batch = int(str(config.get("batch.size", 1_000_000)))
        self._state = _State.INIT
        self._error: KafkaError | None = None
        """Why the transaction, or the producer, failed."""
        self._resumable = ""
        """The call that goes on in the background."""
        self._is_done = False
        """Whether what goes on in the background is done, which the caller does not know yet."""
        self._epoch = -1
        self._has_sent = False
        self._needs_epoch = False
        self._has_told_of_it = False
        """Whether a call raised the fatal error in place of a callback."""
        self._gaps: set[Partition] = set()
        """Where a batch was refused: the numbers of later ones do not follow those before."""
        self._queue: deque[_Queued] = deque()
        self._reports: deque[tuple[Delivered, KafkaError]] = deque()
        self._fails: defaultdict[str, deque[Exception]] = defaultdict(deque)

    def fail(self, call: str, *errors: KafkaError | Exception) -> None:
        """Let the next calls of a name fail in the client, which changes nothing else."""
        self._fails[call] += [
            error if isinstance(error, Exception) else KafkaException(error) for error in errors
        ]

    # Transactions

    def init_transactions(self, timeout: float = -1) -> None:
        self._begin_call("init", (_State.INIT,))
        try:
            if not self._is_done:
                self._epoch = self._ask(
                    KafkaApi.INIT_PRODUCER_ID,
                    timeout,
                    lambda: self._kafka.register(self._name, self._timeout_s),
                )
        except NoAnswerError as error:
            self._resumable = "init"
            code = error.code
            raise KafkaException(errors.retriable(code) if code else errors.timed_out()) from None
        except BrokerError as error:
            raise self._failed(KafkaApi.INIT_PRODUCER_ID, error.code) from None
        self._end_call(_State.READY)

    def begin_transaction(self) -> None:
        self._begin_call("begin", (_State.READY,))
        self._has_sent = False
        self._end_call(_State.OPEN)

    def send_offsets_to_transaction(
        self, offsets: list[TopicPartition], metadata: object, timeout: float = -1
    ) -> None:
        self._begin_call("offsets", (_State.OPEN,))
        if not isinstance(metadata, bytes):
            raise TypeError("group metadata is bytes")
        request = KafkaApi.ADD_OFFSETS
        try:
            self._ask(
                request, timeout, lambda: self._kafka.open_transaction(self._name, self._epoch)
            )
            self._has_sent = True
            request = KafkaApi.COMMIT_OFFSETS
            known = [each for each in offsets if each.offset >= 0]
            self._ask(
                request,
                timeout,
                lambda: self._kafka.add_offsets(self._name, self._epoch, known, metadata),
            )
        except NoAnswerError as error:
            code = error.code or KafkaError._TIMED_OUT
            if request is KafkaApi.ADD_OFFSETS:
                # The transaction stays open: it could be committed, without the offsets.
                raise KafkaException(errors.retriable(code)) from None
            raise self._failed(request, code) from None
        except BrokerError as error:
            raise self._failed(request, error.code) from None

    def commit_transaction(self, timeout: float = -1) -> None:
        self._begin_call("commit", (_State.OPEN, _State.COMMITTING))
        if self._state is _State.OPEN:
            self._serve()
        if self._state in (_State.FAILED, _State.FATAL):
            raise KafkaException(self._error)
        self._state = _State.COMMITTING
        try:
            self._end_transaction(timeout, is_commit=True)
        except BrokerError as error:
            self._resumable = ""
            raise self._failed(KafkaApi.END_TRANSACTION, error.code) from None
        self._end_call(_State.READY)

    def abort_transaction(self, timeout: float = -1) -> None:
        self._begin_call("abort", (_State.OPEN, _State.FAILED, _State.ABORTING))
        self._state = _State.ABORTING
        self._purge()
        self._report()
        try:
            self._end_transaction(timeout, is_commit=False)
            if self._needs_epoch:
                self._epoch = self._kafka.bump(self._name, self._epoch)
        except BrokerError as error:
            self._resumable = ""
            raise self._failed(KafkaApi.END_TRANSACTION, error.code) from None
        if self._needs_epoch:
            self._gaps.clear()
            self._needs_epoch = False
        self._end_call(_State.READY)

    def _end_transaction(self, timeout: float, *, is_commit: bool) -> None:
        def end() -> None:
            self._kafka.end_transaction(self._name, self._epoch, is_commit=is_commit)
            self._is_done = True

        if self._is_done or not self._has_sent:
            return  # the coordinator is not asked where it knows of nothing
        try:
            self._ask(KafkaApi.END_TRANSACTION, timeout, end)
        except NoAnswerError:
            self._resumable = "commit" if is_commit else "abort"
            raise KafkaException(errors.timed_out()) from None
        except BrokerError as error:
            if is_commit or error.code not in _NO_ID:
                raise
            self._epoch = self._kafka.bump(self._name, self._epoch)  # which aborts it, too

    # Records

    def produce(
        self,
        topic: str,
        value: bytes | None = None,
        key: bytes | None = None,
        partition: int = -1,
        on_delivery: Delivered | None = None,
        headers: Headers | None = None,
    ) -> None:
        self._kafka.calls.append((value or b"")[:20].decode(errors="replace"))
        self._fail_if_told("produce")
        error = self._enqueue(topic, value, key, partition, on_delivery, headers)
        if error is not None:
            raise KafkaException(error)

    def produce_batch(self, topic: str, messages: list[dict[str, object]]) -> int:
        taken = 0
        for message in messages:
            value, key, delivered = message["value"], message.get("key"), message.get("callback")
            if not isinstance(value, bytes) or not (key is None or isinstance(key, bytes)):
                raise TypeError("keys and values are bytes")
            self._kafka.calls.append(value[:20].decode(errors="replace"))
            report = delivered if callable(delivered) else None
            error = self._enqueue(topic, value, key, -1, report, None)
            if error is None:
                taken += 1
            else:
                message["_error"] = error
        return taken

    def _enqueue(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None,
        partition: int,
        delivered: Delivered | None,
        headers: Headers | None,
    ) -> KafkaError | None:
        """Take a record; returns why it is not taken."""
        if self._state is _State.FATAL:
            return KafkaError(KafkaError._FATAL)
        if self._state is not _State.OPEN:
            return KafkaError(KafkaError._STATE)
        record = Stored(key, value, headers or [], int(self._kafka.clock.now * 1_000))
        if record.size > self._limit:
            return KafkaError(KafkaError.MSG_SIZE_TOO_LARGE)
        if partition < 0:
            count = sum(name == topic for name, _ in self._kafka.logs)
            partition = zlib.crc32(key or b"") % max(1, count)
        self._queue.append(_Queued((topic, partition), record, delivered))
        return None

    def poll(self, timeout: float = 0.0) -> int:
        self._serve()
        if self._state is _State.FATAL and self._error is not None and not self._has_told_of_it:
            self._has_told_of_it = True  # the client library raises it once, in place of a callback
            raise KafkaException(self._error)
        return 0

    def flush(self, timeout: float = -1) -> int:
        self._serve()
        return len(self)

    def list_topics(self, topic: str | None = None, timeout: float = -1) -> ClusterMetadata:
        try:
            return self._kafka.metadata(topic, timeout)
        except NoAnswerError:
            raise KafkaException(KafkaError(KafkaError._TRANSPORT)) from None
        except BrokerError as error:
            raise KafkaException(KafkaError(error.code)) from None

    def __len__(self) -> int:
        return len(self._queue) + len(self._reports)

    def __bool__(self) -> bool:
        return True

    # In the background

    def _serve(self) -> None:
        self._send()
        self._report()

    def _send(self) -> None:
        """Send what is queued, in batches; a batch that is refused fails the transaction."""
        batches: dict[Partition, list[list[_Queued]]] = {}
        while self._queue:
            queued = self._queue.popleft()
            of_one = batches.setdefault(queued.partition, [[]])
            if sum(each.record.size for each in of_one[-1]) + queued.record.size > self._batch:
                of_one.append([])
            of_one[-1].append(queued)
        for partition, of_one in batches.items():
            for batch in filter(None, of_one):
                if self._state is _State.OPEN:
                    self._send_batch(partition, batch)
                else:
                    self._queue.extend(batch)
                    self._purge()

    def _send_batch(self, partition: Partition, batch: list[_Queued]) -> None:
        records = [queued.record for queued in batch]
        self._has_sent = True

        def append() -> None:
            self._kafka.add_partition(self._name, self._epoch, partition)
            if partition in self._gaps:
                raise BrokerError(KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER)
            self._kafka.append(self._name, self._epoch, partition, records)

        try:
            self._ask(KafkaApi.PRODUCE, self._timeout_s, append)
        except (BrokerError, NoAnswerError) as error:
            code = error.code or KafkaError._MSG_TIMED_OUT
            self._gaps.add(partition)
            self._failed(KafkaApi.PRODUCE, code)
            self._fail_all(batch, code)

    def _purge(self) -> None:
        self._fail_all(self._queue, KafkaError._PURGE_QUEUE)
        self._queue.clear()

    def _fail_all(self, failed: "list[_Queued] | deque[_Queued]", code: int) -> None:
        for queued in failed:
            if queued.delivered is not None:
                self._reports.append((queued.delivered, KafkaError(code)))

    def _report(self) -> None:
        while self._reports:
            delivered, error = self._reports.popleft()
            delivered(error, None)

    # The state

    def _ask(self, request: KafkaApi, timeout: float, do: Callable[[], T]) -> T:
        limit = self._timeout_s if timeout < 0 else timeout
        if request is not KafkaApi.INIT_PRODUCER_ID:

            def checked() -> T:
                self._kafka.expect_epoch(self._name, self._epoch)
                return do()

            return self._kafka.ask(request, limit, checked)
        return self._kafka.ask(request, limit, do)

    def _begin_call(self, call: str, allowed: tuple[_State, ...]) -> None:
        self._kafka.calls.append(call)
        self._fail_if_told(call)
        if self._resumable and self._resumable != call:
            raise KafkaException(errors.conflict(self._resumable))
        if self._state in allowed:
            return
        if self._state in (_State.FAILED, _State.FATAL):
            raise KafkaException(self._error)
        raise KafkaException(errors.state(self._state))

    def _end_call(self, state: _State) -> None:
        self._state, self._resumable, self._is_done = state, "", False

    def _fail_if_told(self, call: str) -> None:
        if self._fails[call]:
            raise self._fails[call].popleft()

    def _failed(self, request: KafkaApi, code: int) -> KafkaException:
        """Note that the transaction, or the producer, failed; returns what to raise."""
        if self._state is _State.FATAL:
            return KafkaException(self._error)
        shown = KafkaError._FENCED if code in _FENCED else code
        text = f"{request.name}: {KafkaError(code).str()}"
        if code in _FATAL[request]:
            self._state, self._error = _State.FATAL, errors.fatal(shown, text)
        elif self._state is not _State.FAILED:
            self._state, self._error = _State.FAILED, errors.abortable(shown, text)
            self._needs_epoch = self._needs_epoch or code in _NEEDS_EPOCH
        return KafkaException(self._error)
