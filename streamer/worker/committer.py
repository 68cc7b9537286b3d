"""The committing side: outcomes, dead letters, parked records and offsets, in one transaction."""

import logging
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping

from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition
from prometheus_client import Counter as PrometheusCounter

from streamer import metrics
from streamer.flow.breaker import Breaker
from streamer.flow.window import Partition, PartitionWindow
from streamer.model.record import DeadLetter, Ending, Outcome, Parked, Record
from streamer.model.wire import dead_letter_headers, outcome_value, parked_headers
from streamer.settings import Settings, Topics
from streamer.worker import kafka

logger = logging.getLogger(__name__)

Prefixes = dict[Partition, tuple[PartitionWindow, list[Record]]]

_MOST_RECORDS = 5_000
_CALL_TIMEOUT_S = 5.0
_START_TIMEOUT_S = 10.0
_START_TRIES = 3
# The generation of a group's metadata, behind its format's name; negative before the group was
# joined. The broker would accept offsets of such metadata from anybody, fenced or not.
_GENERATION = slice(7, 11)


def fencing_producer(settings: Settings) -> Producer:
    """A transactional producer that has fenced whoever had this worker's id before.

    A transaction that the other left open is ended by that. Until then the group's offsets
    cannot be read, so this comes before reading them.

    Raises:
        KafkaException: the brokers cannot be reached, or do not allow it.
    """
    producer = Producer(kafka.producer_config(settings))
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


class BreakerError(RuntimeError):
    """Most records are dead letters; the message says what was seen."""


class Committer:
    """Commits what is done. Owned by the thread that owns the consumer.

    The records of a transaction leave their windows when it is committed. When one is aborted
    they stay, and the next transaction writes the same again.

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
        self.busy = False
        """Whether a call is under way; each has a time limit, which librdkafka may forget."""

    def commit(self, windows: Mapping[Partition, PartitionWindow]) -> bool:
        """Commit the done prefixes of the windows; False if that has to be tried again.

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
                prefixes = _done(windows)
                if not prefixes:
                    return True
                metadata = self._group_metadata()
                if _generation(metadata) < 0:
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

    def close(self) -> None:
        """Give up a transaction that is under way."""
        if self._aborting:
            try:
                self._abort()
            except KafkaException as exception:
                logger.warning("abort failed", extra={"error": str(exception.args[0])})

    def _write(self, prefixes: Prefixes, metadata: object) -> None:
        records = [record for _, done in prefixes.values() for record in done]
        self._ask_breaker(records)
        self._checkpoint("before_transaction")
        self._producer.begin_transaction()
        self._aborting = True  # should anything fail before the transaction is complete
        self._produce(records)
        offsets = [
            TopicPartition(topic, partition, done[-1].offset + 1, self._epoch)
            for (topic, partition), (_, done) in prefixes.items()
        ]
        self._producer.send_offsets_to_transaction(offsets, metadata, _CALL_TIMEOUT_S)
        self._checkpoint("inside_transaction")
        self._aborting = False
        self._unfinished = prefixes

    def _finish(self) -> None:
        if self._unfinished is None:
            return
        # When it times out nobody knows how it ended, so it must be called again: an abort
        # instead would be refused for ever if the commit had begun.
        self._producer.commit_transaction(_CALL_TIMEOUT_S)
        for window, records in self._unfinished.values():
            window.advance(len(records))
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
        for record in records:
            ending = record.ending
            if isinstance(ending, DeadLetter):
                self._producer.produce(
                    self._topics.dead_letters,
                    record.value,
                    record.key,
                    headers=dead_letter_headers(record, ending),
                )
            elif isinstance(ending, Parked):
                # The records of a partition stay in their order.
                self._producer.produce(
                    self._topics.parked,
                    record.value,
                    record.key,
                    partition=record.partition % self._parked_partitions,
                    headers=parked_headers(record, ending),
                )
            elif ending is not None:
                outcomes.append({"value": outcome_value(record, ending), "key": record.key})
        self._producer.produce_batch(self._topics.outcomes, outcomes)
        for outcome in outcomes:
            error = outcome.get("_error")
            if isinstance(error, KafkaError):
                raise KafkaException(error)

    def _recover(self, exception: KafkaException) -> None:
        error = exception.args[0]
        if error.fatal():
            raise exception
        if error.txn_requires_abort():
            self._unfinished = None
            self._aborting = True
        elif self._unfinished is not None and not error.retriable():
            raise exception
        logger.warning(
            "a transaction did not succeed, it will be tried again",
            extra={"error": error.str(), "code": error.name(), "abort": self._aborting},
        )

    def _abort(self) -> None:
        self._producer.abort_transaction(_CALL_TIMEOUT_S)
        self._aborting = False


def _done(windows: Mapping[Partition, PartitionWindow]) -> Prefixes:
    prefixes: Prefixes = {}
    room = _MOST_RECORDS
    for key, window in windows.items():
        records = window.done_prefix(room)
        if records:
            prefixes[key] = (window, records)
            room -= len(records)
        if room == 0:
            break
    return prefixes


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


def _generation(metadata: object) -> int:
    if not isinstance(metadata, bytes) or len(metadata) < _GENERATION.stop:
        return -1
    return int.from_bytes(metadata[_GENERATION], sys.byteorder, signed=True)
