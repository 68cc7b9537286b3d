"""The committing side: outcomes, dead letters, parked records and offsets, in one transaction."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

from confluent_kafka import KafkaError, KafkaException, Message, Producer, TopicPartition
from prometheus_client import Counter as PrometheusCounter

from streamer import metrics
from streamer.errors import StreamerError
from streamer.flow.breaker import Breaker
from streamer.flow.window import Partition, PartitionWindow
from streamer.logs import client_logger
from streamer.model.record import DeadLetter, Ending, Headers, Outcome, Parked, Record
from streamer.model.refused import leave_out
from streamer.model.wire import dead_letter_headers, outcome_value, parked_headers
from streamer.settings import Settings, Topics
from streamer.worker import kafka

logger = logging.getLogger(__name__)


class Prefix(NamedTuple):
    """What of a window goes into a transaction: records, if any are done, and the offset."""

    window: PartitionWindow
    records: list[Record]
    offset: int


Prefixes = dict[Partition, Prefix]

_MOST_RECORDS = 5_000
_MOST_BYTES = 8_000_000
_CALL_TIMEOUT_S = 5.0
_START_TIMEOUT_S = 10.0
_START_TRIES = 3
# What is said of a record, or of those that went to the broker together: not of the broker.
_REFUSALS = {
    KafkaError.MSG_SIZE_TOO_LARGE,
    KafkaError.INVALID_MSG_SIZE,
    KafkaError.RECORD_LIST_TOO_LARGE,
    KafkaError.INVALID_TIMESTAMP,
    KafkaError.POLICY_VIOLATION,
    KafkaError.INVALID_RECORD,
}


def fencing_producer(settings: Settings) -> Producer:
    """A transactional producer that has fenced whoever had this worker's id before.

    A transaction that the other left open is ended by that. Until then the group's offsets
    cannot be read, so this comes before reading them.

    Raises:
        KafkaException: the brokers cannot be reached, or do not allow it.
    """
    producer = Producer(
        kafka.producer_config(settings) | _PROPERTIES, logger=client_logger("producer")
    )
    for attempt in range(1, _START_TRIES + 1):
        try:
            producer.init_transactions(_START_TIMEOUT_S)
        except KafkaException as exception:
            # A new or restarted cluster takes its time to have a coordinator.
            if attempt == _START_TRIES or not exception.args[0].retriable():
                raise
        else:
            break
    return producer


_PROPERTIES: kafka.Properties = {
    # A broker holds a topic's limit against what comes together: less than any topic allows.
    "batch.size": 131_072,
    "delivery.report.only.error": True,
}
_KINDS = {Outcome: "outcome", DeadLetter: "dead_letter", Parked: "parked"}


class BreakerError(StreamerError):
    """Most records are dead letters; the message says what was seen."""


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
        producer: Producer,
        topics: Topics,
        group_metadata: Callable[[], object],
        epoch: str,
        parked_partitions: int,
        breaker: Breaker,
        checkpoint: Callable[[str], None],
    ) -> None:
        self._parked_partitions = parked_partitions
        self._breaker = breaker
        self._producer = producer
        self._topics = topics
        self._group_metadata = group_metadata
        self._epoch = epoch
        self._checkpoint = checkpoint
        self._unfinished: Prefixes | None = None
        self._aborting = False
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
            if self._aborting:
                self._abort()
            if self._unfinished is None:
                prefixes = self._next(windows)
                if not prefixes:
                    return True
                metadata = self._group_metadata()
                if kafka.generation(metadata) < 0:
                    return False
                self._write(prefixes, metadata)
            self._finish()
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
        if self._aborting:
            try:
                self._abort()
            except KafkaException as exception:
                logger.warning("abort failed", extra={"error": str(exception.args[0])})

    def _write(self, prefixes: Prefixes, metadata: object) -> None:
        records = [record for prefix in prefixes.values() for record in prefix.records]
        self._ask_breaker(records)
        if records:
            self._checkpoint("before_transaction")
        self._producer.begin_transaction()
        self._aborting = True  # should anything fail before the transaction is complete
        self._refused.clear()
        self._is_alone = len(records) == 1
        self._produce(records)
        offsets = [
            TopicPartition(topic, partition, prefix.offset, self._epoch)
            for (topic, partition), prefix in prefixes.items()
        ]
        self._producer.send_offsets_to_transaction(offsets, metadata, _CALL_TIMEOUT_S)
        if records:
            self._checkpoint("inside_transaction")
        self._aborting = False
        self._unfinished = prefixes

    def _finish(self) -> None:
        if self._unfinished is None:
            return
        # When it times out nobody knows how it ended, so it must be called again: an abort
        # instead would be refused for ever if the commit had begun.
        self._producer.commit_transaction(_CALL_TIMEOUT_S)
        for window, records, offset in self._unfinished.values():
            window.committed(len(records), offset)
            self._breaker.remember(_are_dead(records))
            _count(records)
        self._unfinished = None

    def _ask_breaker(self, records: list[Record]) -> None:
        dead = [record for record in records if isinstance(record.ending, DeadLetter)]
        if not dead or not self._breaker.trips(_are_dead(records)):
            return
        last = dead[-1]
        detail = last.ending.detail if isinstance(last.ending, DeadLetter) else ""
        raise BreakerError(
            f"most of the last records are dead letters, which is the fault of their producer, or "
            f"of these settings: the last is {last.coordinates}: {detail}. Nothing of them is "
            f"committed. Mend the producer; or, if they are to be dead letters, raise "
            f"breaker.dead_share"
        )

    def _produce(self, records: list[Record]) -> None:
        """Hand the records' endings to the producer.

        Outcomes go in one call: each call lets go of the interpreter's lock, and to have it back
        from busy senders takes longer than the rest of it.
        """
        outcomes: list[dict[str, object]] = []
        ended: list[Record] = []
        for record in records:
            ending = record.ending
            if isinstance(ending, DeadLetter):
                headers = dead_letter_headers(record, ending)
                self._produce_one(self._topics.dead_letters, record, headers)
            elif isinstance(ending, Parked):
                # The records of a partition stay in their order.
                headers = parked_headers(record, ending)
                partition = record.partition % self._parked_partitions
                self._produce_one(self._topics.parked, record, headers, partition)
            elif ending is not None:
                ended.append(record)
                outcomes.append(
                    {
                        "value": outcome_value(record, ending),
                        "key": record.key,
                        "callback": partial(self._delivered, record),
                    }
                )
        self._producer.produce_batch(self._topics.outcomes, outcomes)
        for outcome, record in zip(outcomes, ended, strict=True):
            error = outcome.get("_error")
            if isinstance(error, KafkaError):
                self._delivered(record, error, None)
                raise KafkaException(error)

    def _produce_one(
        self, topic: str, record: Record, headers: Headers, partition: int = -1
    ) -> None:
        delivered = partial(self._delivered, record)
        try:
            self._producer.produce(
                topic,
                record.value,
                record.key,
                partition=partition,
                on_delivery=delivered,
                headers=headers,
            )
        except KafkaException as exception:
            delivered(exception.args[0], None)
            raise
        except BufferError:  # the client's queue is full: what is in it has to go first
            raise KafkaException(KafkaError(KafkaError._QUEUE_FULL)) from None

    def _delivered(self, record: Record, error: KafkaError | None, message: Message | None) -> None:
        """Called by the client for what was not delivered, and for nothing else."""
        del message
        if error is not None and error.code() in _REFUSALS:
            self._refused.append((record, error))

    def _recover(self, exception: KafkaException) -> None:
        error = exception.args[0]
        if error.fatal():
            raise exception
        self._leave_out_what_is_refused()
        if error.txn_requires_abort():
            self._unfinished = None
            self._aborting = True
        elif self._unfinished is not None and not error.retriable():
            raise exception
        logger.warning(
            "a transaction did not succeed, it will be tried again",
            extra={"error": error.str(), "code": error.name(), "abort": self._aborting},
        )

    def _leave_out_what_is_refused(self) -> None:
        """Have those that Kafka refused go alone; or, if they did, write less of them."""
        self._producer.poll(0)  # lets it tell what it has not told yet
        for record, error in self._refused:
            record.refusals += 1
            if not self._is_alone:
                continue
            kind = _KINDS[type(record.ending)]
            left_out = leave_out(record)
            metrics.REFUSED.labels(kind).inc()
            logger.error(
                "Kafka refuses the ending of a record, less of it is written"
                if left_out
                else "Kafka refuses the least that can be written of a record: look at the topics",
                extra={
                    "record": str(record.coordinates),
                    "ending": kind,
                    "left_out": left_out or "all",
                    "error": error.str(),
                },
            )
        self._refused.clear()

    def _abort(self) -> None:
        self._producer.abort_transaction(_CALL_TIMEOUT_S)
        self._aborting = False


def _due(windows: Mapping[Partition, PartitionWindow]) -> Prefixes:
    """What is done, as far as one transaction takes it, without those that were refused; and
    which windows are behind."""
    prefixes: Prefixes = {}
    places, room = _MOST_RECORDS, _MOST_BYTES
    for key, window in windows.items():
        taken = []
        for record in window.done_prefix(places) if room > 0 else ():
            if record.refusals or room <= 0:
                break
            taken.append(record)
            room -= record.size
        places -= len(taken)
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
    return [isinstance(record.ending, DeadLetter) for record in records]


def _count(records: list[Record]) -> None:
    """Add committed endings to the metrics."""
    for counter, count in Counter(_counter(record.ending) for record in records).items():
        if counter is not None:
            metric, *labels = counter
            metric.labels(*labels).inc(count)


def _counter(ending: Ending | None) -> tuple[PrometheusCounter, *tuple[str, ...]] | None:
    if isinstance(ending, Outcome):
        return metrics.OUTCOMES, ending.status, ending.reason or ""
    if isinstance(ending, DeadLetter):
        return metrics.DEAD_LETTERS, ending.reason
    if isinstance(ending, Parked):
        return metrics.PARKED, ending.scope.kind
    return None
