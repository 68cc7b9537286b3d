"""Consumes the input: owns the consumer, its assignment and the partitions' windows."""

import logging
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import cast

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # public, yet not re-exported
    AdminClient,
    TopicMetadata,
)

from streamer import metrics
from streamer.flow.window import Partition
from streamer.kafka.headers import header_list
from streamer.kafka.metadata import topic_id
from streamer.kafka.offsets import committed, generation
from streamer.kafka.properties import client_properties, member_properties
from streamer.kafka.reading import is_permanent
from streamer.kafka.repeating import repeat
from streamer.kafka.sessions import member_session
from streamer.logs import client_logger
from streamer.model import record_headers
from streamer.model.pulse import OffsetMetadata
from streamer.model.reasons import DeadReason
from streamer.model.record import DeadLetter, Record, RecordId
from streamer.model.wire import PARKED_AT, replaced_batch, split_headers
from streamer.settings import Settings
from streamer.worker.arrivals import (
    OFFSETS_TIMEOUT_S,
    Arrivals,
    CheckArrived,
    SourceError,
    Windows,
    parsed_metadata,
)

logger = logging.getLogger(__name__)

# A dead worker's open transaction blocks reading its offsets until the transaction times out and
# the broker notices, which checks every 10 s.
_START_PATIENCE_S = 25.0
_METADATA_TIMEOUT_S = 5.0
_METADATA_PATIENCE_S = 12.0
_IDLE_S = 0.25
_AT_END = ("latest", "largest", "end")  # synonyms in librdkafka
_UNREADABLE_HEADERS = DeadLetter(DeadReason.UNDECODABLE, "a header name is not UTF-8")


class FencedError(SourceError):
    """Another worker has this one's id."""


class RecordSource:
    """Reads input records from Kafka. Only the thread that created it may call it.

    An assigned partition is one of the `Arrivals` until its offsets are known to belong to this
    ledger. Then it has a window. If its offsets were never committed, or by another tool, their
    metadata lacks the ledger's epoch: then the epoch is committed before it is read, with the
    offsets of the other windows. Otherwise a ledger lost during a first batch would be taken for a
    new one, and the whole batch be mailed again.

    It is read up to the reach in the metadata of its offset: records beyond wait until a further
    one is committed. If the ledger is lost, only records within it can have been pinned.
    """

    def __init__(self, settings: Settings) -> None:
        self._topic = settings.topics.recipients
        self._on_revoke: Callable[[Windows], None] = lambda _: None
        self._admin = AdminClient(
            client_properties(settings, settings.worker.id), logger=client_logger("source")
        )
        """Deleted by `start`, since its threads are not needed any more."""
        config = member_properties(settings, member_session(self._admin, settings))
        starts_at_end = config["auto.offset.reset"] in _AT_END
        # So that no offset is skipped, or read twice, without a word: see `_find_offset`.
        config["auto.offset.reset"] = "error"
        self._consumer = Consumer(config, logger=client_logger("source"))
        self._paused = False
        self._arrivals = Arrivals(settings, self._consumer, starts_at_end=starts_at_end)
        self._unread: set[Partition] = set()
        """Partitions with a window that are not read yet."""
        self._ahead: dict[Partition, deque[Record]] = {}
        """Records beyond the committed reach of their windows."""
        self.windows: Windows = {}
        self.lag = 0
        """The number of records in the partitions that are not committed, when last measured."""
        self.joined = False
        """Whether this is a member of the group, with or without partitions. Any thread may read
        this; other threads must not ask the client, whose answer would take seconds."""

    def committed_metadata(self) -> set[OffsetMetadata]:
        """What the metadata of all the group's offsets of the topic says about the ledger.

        Raises:
            SourceError: Kafka does not answer, or the topic does not exist.
        """
        partitions = [(self._topic, p) for p in self._metadata(self._topic).partitions]
        ask = partial(committed, self._consumer, partitions, OFFSETS_TIMEOUT_S)
        try:
            return parsed_metadata(repeat(ask, _START_PATIENCE_S))
        except KafkaException as exception:
            raise SourceError(
                f"cannot read the committed offsets: {exception.args[0].str()}"
            ) from None

    def topic_id(self) -> str:
        """The input topic's id, which changes if the topic is deleted and created again.

        To be called before `start`, which drops the client that asks.

        Raises:
            SourceError: Kafka does not answer, or the topic does not exist.
        """
        ask = partial(topic_id, self._admin, self._topic)
        try:
            return repeat(ask, _METADATA_PATIENCE_S)
        except KafkaException as exception:
            raise SourceError(
                f"cannot describe topic {self._topic}: {exception.args[0].str()}"
            ) from None

    def partitions_of(self, topic: str) -> int:
        """The number of partitions of a topic.

        Raises:
            SourceError: Kafka does not answer, or the topic does not exist.
        """
        return len(self._metadata(topic).partitions)

    def _metadata(self, name: str) -> TopicMetadata:
        ask = partial(self._consumer.list_topics, name, _METADATA_TIMEOUT_S)
        try:
            topic = repeat(ask, _METADATA_PATIENCE_S).topics[name]
        except KafkaException as exception:
            raise SourceError(
                f"cannot reach Kafka: {exception.args[0].str()}; check kafka.bootstrap_servers"
            ) from None
        if topic.error is not None:
            raise SourceError(
                f"topic {name}: {topic.error.str()}; create it with: streamer topics create"
            )
        return cast(TopicMetadata, topic)

    @property
    def held(self) -> int:
        """The number of records that are admitted and not yet committed."""
        return sum(map(len, self.windows.values()))

    @property
    def held_bytes(self) -> int:
        """Approximate memory of the held records."""
        return sum(window.bytes for window in self.windows.values())

    def start(self, check_arrived: CheckArrived, on_revoke: Callable[[Windows], None]) -> None:
        """Join the group.

        Args:
            check_arrived: called with what the metadata of the offsets of newly assigned
                partitions says; its future may raise LedgerLostError.
            on_revoke: called with the windows of partitions that are being revoked, to finish
                and commit what is possible. Afterwards the windows are dropped. Not called for
                lost partitions.
        """
        del self._admin
        self._arrivals.check = check_arrived
        self._on_revoke = on_revoke
        self._consumer.subscribe(
            [self._topic],
            on_assign=self._assigned,
            on_revoke=self._revoked,
            on_lost=self._lost,
        )

    def group_metadata(self) -> object:
        """The consumer's current group metadata."""
        return self._consumer.consumer_group_metadata()

    def poll(self, most: int, timeout_s: float) -> list[Record]:
        """Poll for new records, and admit each to its window.

        With nothing to do it waits for the first record somewhat longer than `timeout_s`.
        Records with unreadable headers are admitted as dead letters, but not returned.

        Raises:
            LedgerLostError: a partition was assigned whose offsets belong to another ledger.
            SourceError: the input cannot be read.
        """
        messages = self._idle() if self._is_idle else self._consumer.consume(most, timeout_s)
        now = time.monotonic()
        self._take_up(now)
        self.joined = self.joined or self._is_member()
        admitted = self._within_reach()
        topic, windows = self._topic, self.windows
        for message in messages:
            if message.error() is not None:
                self._report(message)
                continue
            record = _record(message, now)
            key = (topic, record.partition)
            window = windows.get(key)
            if window is None:
                continue  # it arrived late, from a partition that was given up
            if key in self._ahead or not window.may_admit(record.offset):
                self._ahead.setdefault(key, deque()).append(record)
            elif window.admit(record):
                admitted.append(record)
        for key, ahead in self._ahead.items():
            # However many offsets are missing before it, the next reach is beyond it.
            self.windows[key].pass_to(ahead[0].offset)
        metrics.RECORDS_CONSUMED.inc(len(admitted))
        return [record for record in admitted if record.resolution is None]

    def _within_reach(self) -> list[Record]:
        """Admit the records that are within a reach that was committed since."""
        admitted: list[Record] = []
        for key, ahead in [*self._ahead.items()]:
            window = self.windows[key]
            while ahead and window.may_admit(ahead[0].offset):
                record = ahead.popleft()
                if window.admit(record):
                    admitted.append(record)
            if not ahead:
                del self._ahead[key]
        return admitted

    @property
    def is_ahead(self) -> bool:
        """Whether records wait for a commit of a further reach."""
        return any(
            not self.windows[key].may_admit(ahead[0].offset) for key, ahead in self._ahead.items()
        )

    @property
    def _is_idle(self) -> bool:
        return not (self.held or self._arrivals or self._unread or self._ahead or self._paused)

    def _idle(self) -> list[Message]:
        """Wait for a record. Unlike `consume`, this returns as soon as there is one."""
        message = self._consumer.poll(_IDLE_S)
        return [] if message is None else [message]

    def pause(self) -> None:
        """Stop fetching records; keep polling, to remain a member of the group."""
        if not self._paused:
            self._paused = True
            self._consumer.pause(self._consumer.assignment())

    def resume(self) -> None:
        """Fetch records again."""
        if self._paused:
            self._paused = False
            self._consumer.resume(self._consumer.assignment())

    def committed_offsets(self) -> dict[int, int]:
        """By partition, the offset that was committed with the ledger's epoch."""
        return {
            partition: window.committed_offset
            for (_, partition), window in self.windows.items()
            if window.committed_offset is not None
        }

    def pass_markers(self) -> None:
        """Advance the windows to the consumer's positions: transaction markers behind the last
        record are skipped without being delivered."""
        unread = self._unread | self._ahead.keys()
        read = [TopicPartition(*key) for key in self.windows if key not in unread]
        for at in self._consumer.position(read) if read else ():
            if at.offset >= 0:
                self.windows[at.topic, at.partition].pass_to(at.offset)

    def measure(self) -> None:
        """Update `joined`, the windows' positions, `lag` and the lag metrics."""
        self.joined = self._is_member()
        self.pass_markers()
        lag = 0
        for key, window in self.windows.items():
            if key in self._unread:
                continue
            try:
                _, high = self._consumer.get_watermark_offsets(TopicPartition(*key), cached=True)
            except KafkaException:
                continue
            if high >= 0:
                behind = max(0, high - window.position)
                lag += behind
                metrics.LAG.labels(*key).set(behind)
        self.lag = lag

    def close(self) -> None:
        """Leave the group, so that others are given the partitions at once."""
        self._consumer.close()

    def _is_member(self) -> bool:
        # The client's main thread answers, while this thread holds the GIL: for some hundredths
        # of a second at most, as long as this is the polling thread, with or without brokers.
        return generation(self.group_metadata()) >= 0

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        logger.info("partitions assigned", extra={"partitions": _numbers(partitions)})
        metrics.REBALANCES.labels("assigned").inc()
        self._arrivals.add((p.topic, p.partition) for p in partitions)
        consumer.incremental_assign([])  # or the client would start reading at once

    def _take_up(self, now: float) -> None:
        """Read what has arrived, once its first offset is committed."""
        begun = self._arrivals.begun(now)
        self.windows |= begun
        self._unread |= begun.keys()
        ready = [key for key in self._unread if self.windows[key].is_marked]
        if ready:
            starts = [TopicPartition(*key, self.windows[key].position) for key in ready]
            self._consumer.incremental_assign(starts)
            # In librdkafka a pause outlives the assignment: set the state of each explicitly.
            (self._consumer.pause if self._paused else self._consumer.resume)(starts)
            self._unread -= {*ready}

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
        gone = {(p.topic, p.partition) for p in partitions}
        read = (gone & self.windows.keys()) - self._unread
        for key in gone:
            self.windows.pop(key, None)
            self._ahead.pop(key, None)
            metrics.forget_lag(*key)
        self._arrivals.drop(gone)
        self._unread -= gone
        consumer.incremental_unassign([TopicPartition(*key) for key in read])

    def _report(self, message: Message) -> None:
        error = message.error()
        if error is None:
            return
        if error.code() == KafkaError._AUTO_OFFSET_RESET:
            self._find_offset(message)
            return
        if not is_permanent(error):
            logger.warning("Kafka reports an error", extra={"error": error.str()})
            return
        raise SourceError(f"cannot read {self._topic}: {error.str()}")

    def _find_offset(self, message: Message) -> None:
        """Read on where a partition's records begin, if Kafka has deleted those before them.

        Raises:
            SourceError: it has lost records that were read already.
        """
        topic, number, at = message.topic(), message.partition(), message.offset()
        if topic is None or number is None or at is None:
            raise AssertionError("the error is that of an offset of a partition")
        if (topic, number) not in self.windows.keys() - self._unread:
            return  # it was given up since
        try:
            asked = TopicPartition(topic, number)
            first, end = self._consumer.get_watermark_offsets(asked, OFFSETS_TIMEOUT_S)
        except KafkaException as exception:  # the same error will come again
            logger.warning("Kafka reports an error", extra={"error": exception.args[0].str()})
            first = end = at
        if at > end:
            raise SourceError(
                f"Kafka has lost records of partition {number} of {topic}: it ends at {end}, but "
                f"was read up to {at} (unclean.leader.election.enable, or a topic that was created "
                f"again). Nothing is read, since new records would be taken for those that were "
                f"read. Stop all workers, set the group's offset of the partition to the first new "
                f"record (kafka-consumer-groups.sh --reset-offsets), and start them again"
            )
        if first > at:
            metrics.RECORDS_MISSED.inc(first - at)
            logger.error(
                "Kafka deleted records before they were read, reading on behind them: they have no "
                "outcome; raise retention.ms of the topic",
                extra={"partition": number, "offset": at, "records": first - at},
            )
        start = TopicPartition(topic, number, max(first, at))
        self._consumer.incremental_unassign([start])
        self._consumer.incremental_assign([start])
        (self._consumer.pause if self._paused else self._consumer.resume)([start])


def _record(message: Message, now: float) -> Record:
    topic, partition, offset = message.topic(), message.partition(), message.offset()
    if topic is None or partition is None or offset is None:
        raise AssertionError("a consumed message has a topic, partition and offset")
    headers = header_list(message)
    record_id = RecordId(topic, partition, offset)
    if not headers:
        record = Record(record_id, message.key(), message.value(), None, now)
        if headers is None:
            record.resolve(_UNREADABLE_HEADERS, time.time())
        return record
    own, decoded = split_headers(headers)
    first = record_headers.source_id(decoded)
    returned = first is not None and first.topic == topic
    return Record(
        first if first is not None and returned else record_id,
        message.key(),
        message.value(),
        own,
        now,
        offset,
        partition,
        replaced_batch(own),
        was_parked=returned and PARKED_AT in decoded,
    )


def _numbers(partitions: list[TopicPartition]) -> list[int]:
    return sorted(p.partition for p in partitions)
