"""The committing side: outcomes, dead letters, parked records and offsets, in one transaction."""

import logging
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition

from streamer import metrics
from streamer.errors import StreamerError
from streamer.flow.breaker import DeadLetterBreaker
from streamer.flow.window import Partition, PartitionWindow
from streamer.kafka.offsets import generation
from streamer.kafka.transactions import Delivered, State, TransactionalProducer, is_refused
from streamer.logs import client_logger
from streamer.model.record import DeadLetter, Parked, Record
from streamer.model.shrink import shrink
from streamer.model.wire import dead_letter_headers, outcome_value, parked_headers
from streamer.settings import Settings, TopicSettings
from streamer.worker.endings import KINDS, count_endings

logger = logging.getLogger(__name__)


class Prefix(NamedTuple):
    """What of a window goes into a transaction: records, if any are done, and the offset."""

    window: PartitionWindow
    records: list[Record]
    offset: int


Prefixes = dict[Partition, Prefix]

_MAX_RECORDS = 5_000
_MAX_BYTES = 8_000_000


class BreakerError(StreamerError):
    """Most records are dead letters; the message says what was seen."""


def fencing_producer(settings: Settings) -> TransactionalProducer:
    """A producer that has fenced whoever had this worker's id before.

    Raises:
        KafkaException: the brokers cannot be reached, or do not allow it.
    """
    name = settings.worker.id
    return TransactionalProducer(settings, name, name, logger=client_logger("producer"))


class Committer:
    """Commits what is done. Owned by the thread that owns the consumer.

    The records of a transaction leave their windows when it is committed. When one is aborted
    they stay, and the next transaction writes the same again. A record whose ending Kafka refused
    has a transaction of its own: if it is refused again, less of it is written.

    Args:
        producer: as of `fencing_producer`.
        group_metadata: gives the consumer's group metadata as it is now.
        epoch: of the ledger, kept in the metadata of the offsets.
        parked_partitions: how many the parked topic has.
        breaker: is asked before each transaction.
        checkpoint: called at named points; tests of crashes kill the process there.
    """

    def __init__(
        self,
        producer: TransactionalProducer,
        topics: TopicSettings,
        group_metadata: Callable[[], object],
        epoch: str,
        parked_partitions: int,
        breaker: DeadLetterBreaker,
        checkpoint: Callable[[str], None],
    ) -> None:
        self._parked_partitions = parked_partitions
        self._breaker = breaker
        self._producer = producer
        self._topics = topics
        self._group_metadata = group_metadata
        self._epoch = epoch
        self._checkpoint = checkpoint
        self._written: Prefixes = {}
        """In the transaction under way."""
        self._refused: list[tuple[Record, KafkaError]] = []
        """Of the transaction under way."""
        self._is_alone = False
        self._alone_next = True
        self.in_haste = False
        """Whether others wait for a record that was refused."""
        self.busy = False
        """Whether a call is under way; each has a time limit, which librdkafka may forget."""

    def commit(self, windows: Mapping[Partition, PartitionWindow]) -> bool:
        """Commit the done prefixes of the windows, and the offsets of those that are behind.

        False if that has to be tried again.

        Raises:
            KafkaException: this producer was fenced, or is beyond repair: the process must end.
            BreakerError: too many of the last records are dead letters; none more is committed.
        """
        started = time.perf_counter()
        self.busy = True
        try:
            if self._producer.state is State.OPEN:  # it failed
                self._producer.abort()
            if self._producer.state is not State.COMMITTING:
                prefixes = self._next(windows)
                if not prefixes:
                    return True
                metadata = self._group_metadata()
                if generation(metadata) < 0:
                    return False
                self._write(prefixes, metadata)
            self._producer.commit()
            self._settle()
        except KafkaException as exception:
            self._recover(exception)
            return False
        finally:
            self.busy = False
        metrics.COMMIT.observe(time.perf_counter() - started)
        return True

    def _next(self, windows: Mapping[Partition, PartitionWindow]) -> Prefixes:
        """What to commit: those that were refused, and the others, in turn."""
        refused = _refused_before(windows)
        self.in_haste = bool(refused)
        self._alone_next = not self._alone_next
        return refused if refused and self._alone_next else _due(windows) or refused

    def close(self) -> None:
        """Give up a transaction that is under way."""
        if self._producer.state is State.OPEN:
            try:
                self._producer.abort()
            except KafkaException as exception:
                logger.warning("abort failed", extra={"error": str(exception.args[0])})

    def _write(self, prefixes: Prefixes, metadata: object) -> None:
        records = [record for prefix in prefixes.values() for record in prefix.records]
        self._ask_breaker(records)
        if records:
            self._checkpoint("before_transaction")
        self._producer.begin()
        self._written = prefixes
        self._refused.clear()
        self._is_alone = len(records) == 1
        self._produce(records)
        offsets = [
            TopicPartition(topic, partition, prefix.offset, self._epoch)
            for (topic, partition), prefix in prefixes.items()
        ]
        self._producer.send_offsets(offsets, metadata)
        if records:
            self._checkpoint("inside_transaction")

    def _settle(self) -> None:
        """Let what is committed go."""
        for window, records, offset in self._written.values():
            window.committed(len(records), offset)
            self._breaker.remember(_are_dead(records))
            count_endings(records)

    def _ask_breaker(self, records: list[Record]) -> None:
        dead = [record for record in records if isinstance(record.resolution, DeadLetter)]
        if not dead or not self._breaker.trips(_are_dead(records)):
            return
        last = dead[-1]
        detail = last.resolution.detail if isinstance(last.resolution, DeadLetter) else ""
        raise BreakerError(
            f"most of the last records are dead letters, which is the fault of their producer, or "
            f"of these settings: the last is {last.record_id}: {detail}. Nothing of them is "
            f"committed. Mend the producer; or, if they are to be dead letters, raise "
            f"breaker.dead_share"
        )

    def _produce(self, records: list[Record]) -> None:
        """Hand the records' endings to the producer."""
        outcomes: list[tuple[bytes, bytes | None, Delivered]] = []
        for record in records:
            resolution = record.resolution
            delivered = partial(self._delivered, record)
            if isinstance(resolution, DeadLetter):
                headers = dead_letter_headers(record, resolution)
                self._producer.produce(
                    self._topics.dead_letters, record.value, record.key, -1, headers, delivered
                )
            elif isinstance(resolution, Parked):
                headers = parked_headers(record, resolution)
                # The records of a partition stay in their order.
                partition = record.partition % self._parked_partitions
                self._producer.produce(
                    self._topics.parked, record.value, record.key, partition, headers, delivered
                )
            elif resolution is not None:
                outcomes.append((outcome_value(record, resolution), record.key, delivered))
        self._producer.produce_batch(self._topics.outcomes, outcomes)

    def _delivered(self, record: Record, error: KafkaError | None, message: Message | None) -> None:
        """Take what was not delivered."""
        del message
        if error is not None and is_refused(error):
            self._refused.append((record, error))

    def _recover(self, exception: KafkaException) -> None:
        if self._producer.state is State.LOST:
            raise exception
        self._leave_out_what_is_refused()
        error = exception.args[0]
        must_abort = self._producer.state is State.OPEN
        logger.warning(
            "a transaction did not succeed, it will be tried again",
            extra={"error": error.str(), "code": error.name(), "abort": must_abort},
        )

    def _leave_out_what_is_refused(self) -> None:
        """Have those that Kafka refused go alone; or, if they did, write less of them."""
        for record, error in self._refused:
            record.refusals += 1
            if not self._is_alone:
                continue
            kind = KINDS[type(record.resolution)]
            left_out = shrink(record)
            metrics.REFUSED.labels(kind).inc()
            logger.error(
                "Kafka refuses the ending of a record, less of it is written"
                if left_out
                else "Kafka refuses the least that can be written of a record: look at the topics",
                extra={
                    "record": str(record.record_id),
                    "ending": kind,
                    "left_out": left_out or "all",
                    "error": error.str(),
                },
            )
        self._refused.clear()


def _due(windows: Mapping[Partition, PartitionWindow]) -> Prefixes:
    """What is done, as far as one transaction takes it, without those that were refused; and
    which windows are behind."""
    prefixes: Prefixes = {}
    concurrency, control = _MAX_RECORDS, _MAX_BYTES
    for key, window in windows.items():
        taken = []
        for record in window.done_prefix(concurrency) if control > 0 else ():
            if record.refusals or control <= 0:
                break
            taken.append(record)
            control -= record.size
        concurrency -= len(taken)
        if taken or window.is_behind:
            prefixes[key] = Prefix(window, taken, window.position_after(len(taken)))
    return prefixes


def _refused_before(windows: Mapping[Partition, PartitionWindow]) -> Prefixes:
    """A record that was refused, where its window has none before it; empty if there is none."""
    for key, window in windows.items():
        first = window.done_prefix(1)
        if first and first[0].refusals:
            return {key: Prefix(window, first, window.position_after(1))}
    return {}


def _are_dead(records: list[Record]) -> list[bool]:
    return [isinstance(record.resolution, DeadLetter) for record in records]
