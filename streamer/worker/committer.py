"""Commits outcomes, dead letters, parked records, progress and offsets in one Kafka transaction."""

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
from streamer.kafka.transactions import BatchRecord, State, TransactionalProducer, is_refused
from streamer.logs import client_logger
from streamer.model.progress import progress_records
from streamer.model.pulse import OffsetMetadata
from streamer.model.record import DeadLetter, Outcome, Parked, Record
from streamer.model.shrink import shrink
from streamer.model.wire import dead_letter_headers, outcome_value, parked_headers
from streamer.settings import Settings, TopicSettings
from streamer.worker.endings import KINDS, count_endings

logger = logging.getLogger(__name__)


class Prefix(NamedTuple):
    """A window's part of a transaction: its resolved records, if any, and the offset to commit."""

    window: PartitionWindow
    records: list[Record]
    offset: int
    reach: int


Prefixes = dict[Partition, Prefix]

_MAX_RECORDS = 5_000
_MAX_BYTES = 8_000_000


class BreakerError(StreamerError):
    """Most of the last records are dead letters; the message gives the details."""


def fencing_producer(settings: Settings) -> TransactionalProducer:
    """A transactional producer that has fenced any earlier process with this worker's id.

    Raises:
        KafkaException: the brokers cannot be reached, or do not allow it.
    """
    name = settings.worker.id
    return TransactionalProducer(settings, name, name, logger=client_logger("producer"))


class Committer:
    """Commits resolved records. Owned by the consumer's thread.

    Records leave their windows when their transaction is committed. After an abort they stay,
    and the next transaction writes them again. A record that Kafka refused gets a transaction of
    its own; if it is refused again, it is written with less content.

    Args:
        producer: from `fencing_producer`.
        group_metadata: returns the consumer's current group metadata.
        epoch: the ledger's epoch, written to the metadata of the offsets.
        pulse: returns the ledger's pulse, which is written there too.
        parked_partitions: number of partitions of the parked topic.
        breaker: asked before each transaction.
        checkpoint: called at named points, where crash tests kill the process.
    """

    def __init__(
        self,
        producer: TransactionalProducer,
        topics: TopicSettings,
        group_metadata: Callable[[], object],
        epoch: str,
        pulse: Callable[[], int],
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
        self._pulse = pulse
        self._committed_pulse = 0
        self._written_pulse = 0
        self._checkpoint = checkpoint
        self._written: Prefixes = {}
        """Prefixes in the current transaction."""
        self._refused: list[tuple[Record, KafkaError]] = []
        """Records of the current transaction that Kafka refused."""
        self._is_alone = False
        self._alone_next = True
        self.in_haste = False
        """Whether a refused record blocks later ones."""
        self.busy = False
        """Whether `commit` is running; its calls have time limits, which librdkafka may exceed."""

    def commit(self, windows: Mapping[Partition, PartitionWindow]) -> bool:
        """Commit the resolved prefixes of the windows, and the offsets of those that are behind.

        Returns:
            False if the commit must be retried.

        Raises:
            KafkaException: the producer was fenced or failed fatally: the process must end.
            BreakerError: too many of the last records are dead letters; nothing is committed.
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
        """What to commit next, alternating between a refused record and all others."""
        refused = _refused_before(windows)
        self.in_haste = bool(refused)
        self._alone_next = not self._alone_next
        if refused and self._alone_next:
            return refused
        return _due(windows) or refused or self._pulse_due(windows)

    def _pulse_due(self, windows: Mapping[Partition, PartitionWindow]) -> Prefixes:
        """Any marked window, if there is nothing else to commit but a pulse."""
        if self._pulse() > self._committed_pulse:
            for key, window in windows.items():
                return {key: _prefix(window, [])}
        return {}

    def close(self) -> None:
        """Abort an open transaction."""
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
        pulse = self._written_pulse = self._pulse()
        offsets = [
            TopicPartition(
                topic,
                partition,
                prefix.offset,
                str(OffsetMetadata(self._epoch, pulse, prefix.reach)),
            )
            for (topic, partition), prefix in prefixes.items()
        ]
        self._producer.send_offsets(offsets, metadata)
        if records:
            self._checkpoint("inside_transaction")

    def _settle(self) -> None:
        """Release what was committed from the windows, and count it."""
        self._committed_pulse = self._written_pulse
        for window, records, offset, reach in self._written.values():
            window.committed(len(records), offset, reach)
            self._breaker.remember(_are_dead(records))
            count_endings(records)

    def _ask_breaker(self, records: list[Record]) -> None:
        dead = [record for record in records if isinstance(record.resolution, DeadLetter)]
        if not dead or not self._breaker.trips(_are_dead(records)):
            return
        last = dead[-1]
        detail = last.resolution.detail if isinstance(last.resolution, DeadLetter) else ""
        raise BreakerError(
            f"most of the last records are dead letters, so the producer or these settings are "
            f"probably broken; the last one is {last.record_id}: {detail}. They were not "
            f"committed. Fix the producer; if they should become dead letters, raise "
            f"breaker.dead_share"
        )

    def _produce(self, records: list[Record]) -> None:
        """Produce the records' outcomes, dead letters and parked copies, and their progress."""
        outcomes: list[BatchRecord] = []
        for record in records:
            resolution = record.resolution
            delivered = partial(self._delivered, record)
            if isinstance(resolution, Outcome):
                value = outcome_value(record, resolution)
                outcomes.append({"value": value, "key": record.key, "callback": delivered})
            elif isinstance(resolution, DeadLetter):
                headers = dead_letter_headers(record, resolution)
                self._producer.produce(
                    self._topics.dead_letters, record.value, record.key, -1, headers, delivered
                )
            elif isinstance(resolution, Parked):
                headers = parked_headers(record, resolution)
                # Keeps the records of a partition in order.
                partition = record.partition % self._parked_partitions
                self._producer.produce(
                    self._topics.parked, record.value, record.key, partition, headers, delivered
                )
        self._producer.produce_batch(self._topics.outcomes, outcomes)
        progress: list[BatchRecord] = [
            {"value": value, "key": key, "callback": _ignore_delivered}
            for value, key in progress_records(records)
        ]
        self._producer.produce_batch(self._topics.progress, progress)

    def _delivered(self, record: Record, error: KafkaError | None, message: Message | None) -> None:
        """Delivery callback: note a refused record."""
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
            "transaction failed, retrying",
            extra={"error": error.str(), "code": error.name(), "abort": must_abort},
        )

    def _leave_out_what_is_refused(self) -> None:
        """Mark refused records to go alone next time; shrink one that already went alone."""
        for record, error in self._refused:
            record.refusals += 1
            if not self._is_alone:
                continue
            kind = KINDS[type(record.resolution)]
            left_out = shrink(record)
            metrics.REFUSED.labels(kind).inc()
            logger.error(
                "Kafka rejected the result of a record, reducing it"
                if left_out
                else "Kafka rejected the smallest possible result of a record; check the topics",
                extra={
                    "record": str(record.record_id),
                    "kind": kind,
                    "dropped": left_out or "nothing",
                    "error": error.str(),
                },
            )
        self._refused.clear()


def _due(windows: Mapping[Partition, PartitionWindow]) -> Prefixes:
    """The resolved prefixes that fit into one transaction, each ending before the first refused
    record; and the windows that are behind."""
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
            prefixes[key] = _prefix(window, taken)
    return prefixes


def _prefix(window: PartitionWindow, records: list[Record]) -> Prefix:
    return Prefix(window, records, window.position_after(len(records)), window.next_reach)


def _refused_before(windows: Mapping[Partition, PartitionWindow]) -> Prefixes:
    """A refused record that is first in its window; empty if there is none."""
    for key, window in windows.items():
        first = window.done_prefix(1)
        if first and first[0].refusals:
            return {key: _prefix(window, first)}
    return {}


def _ignore_delivered(error: KafkaError | None, message: Message | None) -> None:
    """Delivery callback of progress records, which are too small to be refused; an error of another
    kind fails the transaction."""
    del error, message


def _are_dead(records: list[Record]) -> list[bool]:
    return [isinstance(record.resolution, DeadLetter) for record in records]
