"""The consuming side: the thread that owns the consumer, its assignment and its windows."""

import logging
import time
from collections.abc import Callable
from typing import cast

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # public, yet not re-exported
    TopicMetadata,
)

from streamer import metrics
from streamer.flow.window import Partition, PartitionWindow
from streamer.ledger.epoch import LedgerLostError
from streamer.model import marks
from streamer.model.reasons import DeadReason
from streamer.model.record import Coordinates, DeadLetter, Record, header_list
from streamer.model.wire import replaced_batch, split_headers
from streamer.settings import Settings
from streamer.worker import kafka

logger = logging.getLogger(__name__)

Windows = dict[Partition, PartitionWindow]

_OFFSETS_TIMEOUT_S = 10.0
# An open transaction of a worker that died holds its offsets back: for its time limit, and until
# the broker looks for such, each 10 s. It has to be less than the watchdog's.
_OFFSETS_PATIENCE_S = 25.0
_OFFSETS_RETRY_S = 0.25
_UNREADABLE_HEADERS = DeadLetter(DeadReason.UNDECODABLE, "the name of a header is not UTF-8")


class SourceError(RuntimeError):
    """The input cannot be read; the message says why and what to do."""


class Source:
    """Input records from Kafka. Only the thread that made it may call it.

    Args:
        verify_epochs: is given the ledger epochs of the offsets of partitions that arrive;
            raises LedgerLostError.
        on_revoke: is called with the windows of partitions that are given up in good order, to
            finish and commit what is possible. Afterwards they are gone.
    """

    def __init__(
        self,
        settings: Settings,
        verify_epochs: Callable[[set[str]], None],
        on_revoke: Callable[[Windows], None],
    ) -> None:
        self._topic = settings.topics.recipients
        self._verify_epochs = verify_epochs
        self._on_revoke = on_revoke
        self._consumer = Consumer(kafka.consumer_config(settings))
        self._paused = False
        self._failure: LedgerLostError | SourceError | None = None
        self.windows: Windows = {}

    def committed_epochs(self) -> set[str]:
        """The ledger epochs in the metadata of all the group's offsets of the topic.

        Raises:
            SourceError: Kafka does not answer, or there is no such topic.
        """
        topic = self._metadata(self._topic)
        return _epochs(self._committed([TopicPartition(self._topic, p) for p in topic.partitions]))

    def partitions_of(self, topic: str) -> int:
        """How many partitions a topic has.

        Raises:
            SourceError: Kafka does not answer, or there is no such topic.
        """
        return len(self._metadata(topic).partitions)

    def _metadata(self, name: str) -> TopicMetadata:
        try:
            topic = self._consumer.list_topics(name, 15.0).topics[name]
        except KafkaException as exception:
            raise SourceError(
                f"Kafka does not answer: {exception.args[0].str()}; "
                f"is kafka.bootstrap_servers right?"
            ) from None
        if topic.error is not None:
            raise SourceError(
                f"topic {name}: {topic.error.str()}; create it: streamer topics create"
            )
        return cast(TopicMetadata, topic)

    def start(self) -> None:
        """Join the group."""
        self._consumer.subscribe(
            [self._topic],
            on_assign=self._assigned,
            on_revoke=self._revoked,
            on_lost=self._lost,
        )

    @property
    def joined(self) -> bool:
        """Whether this is a member of the group, with partitions or without."""
        return bool(self._consumer.memberid())

    def group_metadata(self) -> object:
        """The consumer's group metadata as it is now."""
        return self._consumer.consumer_group_metadata()

    def poll(self, most: int, timeout_s: float) -> list[Record]:
        """New records of the assigned partitions, each admitted to its window.

        Left out are those that are dead letters for what is around their value.

        Raises:
            LedgerLostError: a partition arrived whose offsets belong to another ledger.
            SourceError: the input cannot be read.
        """
        messages = self._consumer.consume(most, timeout_s)
        if self._failure is not None:
            raise self._failure
        now = time.monotonic()
        records = []
        for message in messages:
            if message.error() is not None:
                self._report(message)
                continue
            record = _record(message, now)
            window = self.windows.get((self._topic, record.partition))
            # Without a window it is what arrived late of a partition that was given up.
            if window is not None and window.admit(record):
                metrics.RECORDS_CONSUMED.inc()
                if record.ending is None:
                    records.append(record)
        return records

    def pause(self) -> None:
        """Take no more records; polling goes on, and so does the membership."""
        if not self._paused:
            self._paused = True
            self._consumer.pause(self._consumer.assignment())

    def resume(self) -> None:
        """Take records again."""
        if self._paused:
            self._paused = False
            self._consumer.resume(self._consumer.assignment())

    def measure_lag(self) -> None:
        """Set the lag of the partitions whose end and position are known."""
        for (topic, partition), window in self.windows.items():
            position = window.position
            try:
                _, high = self._consumer.get_watermark_offsets(
                    TopicPartition(topic, partition), cached=True
                )
            except KafkaException:
                continue
            if position is not None and high >= 0:
                metrics.LAG.labels(topic, partition).set(max(0, high - position))

    def close(self) -> None:
        """Leave the group."""
        self._consumer.close()

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        logger.info("partitions assigned", extra={"partitions": _numbers(partitions)})
        metrics.REBALANCES.labels("assigned").inc()
        try:
            committed = self._committed(partitions)
            self._verify_epochs(_epochs(committed))
        except (LedgerLostError, SourceError) as error:
            self._failure = error  # an exception would be lost in the callback
            return
        for partition in committed:
            start = partition.offset if partition.offset >= 0 else None
            self.windows[partition.topic, partition.partition] = PartitionWindow(start)
        consumer.incremental_assign(partitions)
        # A pause outlives the assignment in librdkafka: say for each how it is.
        (consumer.pause if self._paused else consumer.resume)(partitions)

    def _revoked(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        logger.info("partitions revoked", extra={"partitions": _numbers(partitions)})
        metrics.REBALANCES.labels("revoked").inc()
        self._on_revoke(
            {
                key: self.windows[key]
                for key in ((p.topic, p.partition) for p in partitions)
                if key in self.windows
            }
        )
        self._drop(consumer, partitions)

    def _lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        logger.warning("partitions lost", extra={"partitions": _numbers(partitions)})
        metrics.REBALANCES.labels("lost").inc()
        self._drop(consumer, partitions)

    def _drop(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        for partition in partitions:
            self.windows.pop((partition.topic, partition.partition), None)
            metrics.forget_lag(partition.topic, partition.partition)
        consumer.incremental_unassign(partitions)

    def _committed(self, partitions: list[TopicPartition]) -> list[TopicPartition]:
        """The committed offsets; waits for transactions that still hold some back."""
        if not partitions:
            return []
        bare = [TopicPartition(p.topic, p.partition) for p in partitions]
        deadline = time.monotonic() + _OFFSETS_PATIENCE_S
        while True:
            try:
                return self._consumer.committed(bare, _OFFSETS_TIMEOUT_S)
            except KafkaException as exception:
                # A coordinator that moves, or loads, answers so at once, and for a while.
                if time.monotonic() >= deadline:
                    raise SourceError(
                        f"the committed offsets cannot be read: {exception.args[0].str()}"
                    ) from None
                time.sleep(_OFFSETS_RETRY_S)

    def _report(self, message: Message) -> None:
        error = message.error()
        if error is None:
            return
        if error.fatal() or error.code() in (
            KafkaError.UNKNOWN_TOPIC_OR_PART,
            KafkaError.TOPIC_AUTHORIZATION_FAILED,
            KafkaError.GROUP_AUTHORIZATION_FAILED,
        ):
            raise SourceError(f"{self._topic} cannot be read: {error.str()}")
        logger.warning("Kafka reports an error", extra={"error": error.str()})


def _record(message: Message, now: float) -> Record:
    topic, partition, offset = message.topic(), message.partition(), message.offset()
    if topic is None or partition is None or offset is None:
        raise AssertionError("a consumed message has coordinates")
    headers = header_list(message)
    coordinates = Coordinates(topic, partition, offset)
    if not headers:
        record = Record(coordinates, message.key(), message.value(), None, now)
        if headers is None:
            record.end(_UNREADABLE_HEADERS, time.time())
        return record
    own, words = split_headers(headers)
    first = marks.source(words)
    return Record(
        first if first is not None and first.topic == topic else coordinates,
        message.key(),
        message.value(),
        own,
        now,
        offset,
        partition,
        replaced_batch(own),
    )


def _epochs(committed: list[TopicPartition]) -> set[str]:
    return {p.metadata for p in committed if p.offset >= 0 and p.metadata}


def _numbers(partitions: list[TopicPartition]) -> list[int]:
    return sorted(p.partition for p in partitions)
