"""The way back: parked records return to the input when what they wait for has come.

One worker of the cluster at a time does this, in a thread of its own with a consumer and a
producer of its own. It reads the parked topic ahead, without committing, and notes what the
records there wait for. When some of that has come it makes a pass: it starts at the committed
offsets and ends at the end that the topic has at that moment. Each record is written to the input
again, with the coordinates of its first stand, or, if it has to wait on, to the topic's own tail;
in one transaction with the offsets. All relays share one transactional id: a new one fences the
one before, should that still be at it.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import suppress
from threading import Thread

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from streamer import metrics
from streamer.ledger import keys
from streamer.ledger.connection import UNREACHABLE, Client
from streamer.ledger.lease import Lease
from streamer.logs import client_logger
from streamer.model import marks
from streamer.model.parking import Scope
from streamer.model.record import header_list
from streamer.model.wire import PARKED_FOR, PARKED_UNTIL
from streamer.settings import Settings
from streamer.worker import kafka
from streamer.worker.committer import fencing_producer
from streamer.worker.scopes import Scopes
from streamer.worker.waiting import StoppedError, Waiting

logger = logging.getLogger(__name__)

_LOOK_EVERY_S = 0.5
_AWAIT_TURN_S = 1.0
_CHUNK = 1_000
_POLL_S = 0.2
_CALL_TIMEOUT_S = 10.0
_OFFSETS_TIMEOUT_S = 20.0


def group_id(settings: Settings) -> str:
    """The consumer group of the relay: what its offsets are past is parked no more."""
    return f"{settings.kafka.group_id}.relay"


class Relay:
    """Owns the thread `relay`."""

    def __init__(
        self, settings: Settings, client: Client, scopes: Scopes, waiting: Waiting
    ) -> None:
        self._settings = settings
        self._scopes = scopes
        self._waiting = waiting
        self._lease = Lease(client, keys.relay_lease(settings.kafka.group_id))

        self._thread = Thread(target=self._run, name="relay", daemon=True)

    def start(self) -> None:
        """Begin; it ends when the worker stops."""
        self._thread.start()

    def join(self, timeout_s: float) -> None:
        """Wait for the end."""
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while True:
            try:
                if self._lease.hold():
                    self._be_relay()
                self._waiting.sleep(_AWAIT_TURN_S)
            except StoppedError:
                with suppress(*UNREACHABLE):  # then it ends by itself
                    self._lease.release()
                return
            except UNREACHABLE as error:
                logger.debug("no relay without Redis", extra={"error": str(error)})
                time.sleep(_AWAIT_TURN_S)
            except KafkaException as exception:
                logger.warning("the relay starts again", extra={"error": exception.args[0].str()})
                time.sleep(_AWAIT_TURN_S)

    def _be_relay(self) -> None:
        session = _Session(self._settings, self._scopes)
        logger.debug("this worker brings parked records back")
        try:
            next_look = 0.0
            while self._lease.hold():
                session.look_ahead()
                if time.monotonic() >= next_look:
                    if session.something_may_return():
                        for _ in session.make_pass():
                            self._waiting.sleep(0)
                            if not self._lease.hold():
                                return
                    next_look = time.monotonic() + _LOOK_EVERY_S
                self._waiting.sleep(0)
        finally:
            session.close()


class _Session:
    """One relay's turn: its consumer, its producer, and what it has seen of the parked topic."""

    def __init__(self, settings: Settings, scopes: Scopes) -> None:
        self._topics = settings.topics
        self._scopes = scopes
        relay = settings.model_copy(
            update={
                "kafka": settings.kafka.model_copy(update={"group_id": group_id(settings)}),
                "worker": settings.worker.model_copy(update={"id": "relay"}),
            }
        )
        self._producer: Producer = fencing_producer(relay)
        self._consumer = Consumer(
            {**kafka.consumer_config(relay), "enable.partition.eof": True},
            logger=client_logger("relay"),
        )
        self._waiting_for: dict[Scope, int | None] = {}
        try:
            metadata = self._consumer.list_topics(timeout=_CALL_TIMEOUT_S)
            self._inputs = len(metadata.topics[self._topics.recipients].partitions)
            self._partitions = [*metadata.topics[self._topics.parked].partitions]
            self._start_over()
        except BaseException:
            self.close()
            raise

    def look_ahead(self) -> None:
        """Read on, and note what the records wait for."""
        for message in self._consumer.consume(_CHUNK, _POLL_S):
            if not _is_end(message):
                self._note(message)

    def something_may_return(self) -> bool:
        """Whether a pass would bring any record back."""
        return self._scopes.any_free(self._waiting_for)

    def make_pass(self) -> Iterator[None]:
        """Move every record that is parked now; yields after each transaction."""
        ends = {partition: self._end(partition) for partition in self._partitions}
        started, returned, kept = time.monotonic(), 0, 0
        self._waiting_for.clear()
        self._start_over()
        open_partitions = {partition for partition, end in ends.items() if end > 0}
        while open_partitions:
            chunk: list[Message] = []
            for message in self._consumer.consume(_CHUNK, _POLL_S):
                partition, offset = message.partition(), message.offset()
                if partition is None or offset is None:
                    continue
                if _is_end(message):
                    open_partitions.discard(partition)
                elif offset >= ends[partition]:
                    open_partitions.discard(partition)
                    self._note(message)
                else:
                    chunk.append(message)
                    if offset == ends[partition] - 1:
                        open_partitions.discard(partition)
            if chunk:
                back = self._move(chunk)
                returned += back
                kept += len(chunk) - back
            yield
        logger.info(
            "parked records were looked through",
            extra={
                "returned": returned,
                "kept": kept,
                "seconds": round(time.monotonic() - started, 1),
            },
        )

    def close(self) -> None:
        """Let go of the consumer; an open transaction ends with the next relay's start."""
        self._consumer.close()

    def _end(self, partition: int) -> int:
        """Where a partition ends, as the last fetch saw it: to ask takes as long as a fetch waits.
        What came since is looked at when it is read."""
        asked = TopicPartition(self._topics.parked, partition)
        _, end = self._consumer.get_watermark_offsets(asked, cached=True)
        if end < 0:
            _, end = self._consumer.get_watermark_offsets(asked, _CALL_TIMEOUT_S)
        return end

    def _start_over(self) -> None:
        """Read from the committed offsets on."""
        bare = [TopicPartition(self._topics.parked, partition) for partition in self._partitions]
        committed = self._consumer.committed(bare, _OFFSETS_TIMEOUT_S)
        self._consumer.assign(committed)

    def _note(self, message: Message) -> None:
        scope, until = _waits_for(marks.words(header_list(message) or []))
        known = self._waiting_for.get(scope, until)
        self._waiting_for[scope] = until if known is None or until is None else min(known, until)

    def _move(self, messages: list[Message]) -> int:
        """Write records back, or to the tail, and commit; returns how many went back."""
        producer, back = self._producer, 0
        offsets: dict[int, int] = {}
        producer.begin_transaction()
        try:
            for message in messages:
                headers = header_list(message) or []
                words = marks.words(headers)
                scope, until = _waits_for(words)
                partition, offset = message.partition() or 0, message.offset() or 0
                offsets[partition] = offset + 1
                if self._scopes.is_free(scope, until):
                    back += 1
                    # Where it first stood: the records of a partition stay in their order.
                    first = marks.source(words)
                    home = partition if first is None else first.partition
                    producer.produce(
                        self._topics.recipients,
                        message.value(),
                        message.key(),
                        partition=home % self._inputs,
                        headers=[h for h in headers if h[0] not in (PARKED_FOR, PARKED_UNTIL)],
                    )
                else:
                    producer.produce(
                        self._topics.parked,
                        message.value(),
                        message.key(),
                        partition=partition,
                        headers=headers,
                    )
            producer.send_offsets_to_transaction(
                [TopicPartition(self._topics.parked, p, o) for p, o in offsets.items()],
                self._consumer.consumer_group_metadata(),
                _CALL_TIMEOUT_S,
            )
            producer.commit_transaction(_CALL_TIMEOUT_S)
        except KafkaException as exception:
            if not exception.args[0].fatal():
                producer.abort_transaction(_CALL_TIMEOUT_S)
            raise
        metrics.RETURNED.inc(back)
        return back


def _is_end(message: Message) -> bool:
    """Whether it says that a partition has no more now.

    Raises:
        KafkaException: it says that something is wrong.
    """
    error = message.error()
    if error is None:
        return False
    if error.code() == KafkaError._PARTITION_EOF:
        return True
    raise KafkaException(error)


def _waits_for(words: dict[str, str]) -> tuple[Scope, int | None]:
    until = words.get(PARKED_UNTIL, "")
    scope = Scope.read(words.get(PARKED_FOR, ""))
    return scope, int(until) if until.isascii() and until.isdecimal() else None
