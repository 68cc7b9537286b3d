"""The consuming side: the thread that owns the consumer, its assignment and its windows."""

import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import partial
from typing import TypeVar, cast

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # public, yet not re-exported
    AdminClient,
    TopicMetadata,
)

from streamer import metrics
from streamer.errors import StreamerError
from streamer.flow.window import Partition, PartitionWindow
from streamer.kafka.headers import header_list
from streamer.kafka.metadata import topic_id
from streamer.kafka.offsets import committed, generation
from streamer.kafka.properties import client_properties, member_properties
from streamer.kafka.reading import FORBIDDEN, is_permanent
from streamer.ledger import keys
from streamer.logs import client_logger
from streamer.model import record_headers
from streamer.model.reasons import DeadReason
from streamer.model.record import DeadLetter, Record, RecordId
from streamer.model.wire import replaced_batch, split_headers
from streamer.settings import Settings

logger = logging.getLogger(__name__)

T = TypeVar("T")

Windows = dict[Partition, PartitionWindow]
CheckArrived = Callable[[set[str]], Future[dict[int, int]]]
"""Begins to check that the epochs in the metadata of offsets are the ledger's, and to read how far
partitions were committed, as the ledger knows it."""

_OFFSETS_TIMEOUT_S = 2.0
_OFFSETS_RETRY_S = 0.5
# An open transaction of a worker that died holds its offsets back: for its time limit, and until
# the broker looks for such, each 10 s.
_START_PATIENCE_S = 25.0
_METADATA_TIMEOUT_S = 5.0
_METADATA_PATIENCE_S = 12.0
_EARLIEST, _LATEST = -2, -1  # as times, in Kafka's protocol
_AT_END = ("latest", "largest", "end")  # each means the same to librdkafka
_UNREADABLE_HEADERS = DeadLetter(DeadReason.UNDECODABLE, "the name of a header is not UTF-8")


class SourceError(StreamerError):
    """The input cannot be read; the message says why and what to do."""


class RecordSource:
    """Input records from Kafka. Only the thread that made it may call it.

    A partition that arrives goes through these states, each left as `poll` is called, so that a
    rebalance waits for nobody:
    - arrived: it is this member's, and nothing is known of it yet;
    - asked about: what is committed of it is known, and what the ledger knows of it is awaited, by
      another thread: a Redis that stands still must not hold up polls and commits;
    - its window is there: its offsets belong to this ledger. The ledger's epoch is not yet in
      their metadata where they were never committed, or by another tool; then that is committed
      first, with the windows' other offsets. A ledger that is lost while a first batch is under
      way would be taken for a new one otherwise, and all of it mailed again;
    - it is read.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._topic = settings.topics.recipients
        self._check_arrived: CheckArrived = _nothing_is_known
        self._on_revoke: Callable[[Windows], None] = lambda _: None
        config = member_properties(settings)
        self._starts_at_end = config["auto.offset.reset"] in _AT_END
        self._consumer = Consumer(config, logger=client_logger("source"))
        self._paused = False
        self._arrived: set[Partition] = set()
        self._asked: dict[Partition, TopicPartition] = {}
        """With what is committed of each."""
        self._check: Future[dict[int, int]] | None = None
        self._unread: set[Partition] = set()
        """Of those with a window."""
        self._next_try = 0.0
        self._last_problem = ""
        self.windows: Windows = {}
        self.joined = False
        """Whether this is a member of the group, with partitions or without. Any thread may look,
        and none may ask the client: its answer to another thread takes seconds."""

    def committed_epochs(self) -> set[str]:
        """The ledger epochs in the metadata of all the group's offsets of the topic.

        Raises:
            SourceError: Kafka does not answer, or there is no such topic.
        """
        partitions = [(self._topic, p) for p in self._metadata(self._topic).partitions]
        ask = partial(committed, self._consumer, partitions, _OFFSETS_TIMEOUT_S)
        try:
            return _epochs(_repeat(ask, _START_PATIENCE_S))
        except KafkaException as exception:
            raise SourceError(
                f"the committed offsets cannot be read: {exception.args[0].str()}"
            ) from None

    def topic_id(self) -> str:
        """The input topic's id: one that is created again under its name has another.

        Raises:
            SourceError: Kafka does not answer, or there is no such topic.
        """
        admin = AdminClient(
            client_properties(self._settings, self._settings.worker.id),
            logger=client_logger("source"),
        )
        try:
            return _repeat(partial(topic_id, admin, self._topic), _METADATA_PATIENCE_S)
        except KafkaException as exception:
            raise SourceError(
                f"topic {self._topic} cannot be described: {exception.args[0].str()}"
            ) from None

    def partitions_of(self, topic: str) -> int:
        """How many partitions a topic has.

        Raises:
            SourceError: Kafka does not answer, or there is no such topic.
        """
        return len(self._metadata(topic).partitions)

    def _metadata(self, name: str) -> TopicMetadata:
        ask = partial(self._consumer.list_topics, name, _METADATA_TIMEOUT_S)
        try:
            topic = _repeat(ask, _METADATA_PATIENCE_S).topics[name]
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

    @property
    def held(self) -> int:
        """How many records are admitted and not yet committed."""
        return sum(map(len, self.windows.values()))

    @property
    def held_bytes(self) -> int:
        """The memory that they take, about."""
        return sum(window.bytes for window in self.windows.values())

    def start(self, check_arrived: CheckArrived, on_revoke: Callable[[Windows], None]) -> None:
        """Join the group.

        Args:
            check_arrived: is given the ledger epochs of the offsets of partitions that arrive; its
                answer may raise LedgerLostError.
            on_revoke: is called with the windows of partitions that are given up in good order,
                to finish and commit what is possible. Afterwards they are gone.
        """
        self._check_arrived, self._on_revoke = check_arrived, on_revoke
        self._consumer.subscribe(
            [self._topic],
            on_assign=self._assigned,
            on_revoke=self._revoked,
            on_lost=self._lost,
        )

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
        now = time.monotonic()
        self._take_up(now)
        self.joined = self.joined or self._is_member()
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
                if record.resolution is None:
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

    def committed_offsets(self) -> dict[int, int]:
        """By partition, the offset that is committed with the ledger's epoch."""
        return {
            partition: window.committed_offset
            for (_, partition), window in self.windows.items()
            if window.committed_offset is not None
        }

    def pass_markers(self) -> None:
        """Take note of how far the partitions are read: behind the last record of one may be the
        marker of a transaction, which is passed unseen."""
        read = [TopicPartition(*key) for key in self.windows if key not in self._unread]
        for at in self._consumer.position(read) if read else ():
            if at.offset >= 0:
                self.windows[at.topic, at.partition].pass_to(at.offset)

    def measure(self) -> None:
        """See whether this is a member still, how far the partitions are read, and their lag."""
        self.joined = self._is_member()
        self.pass_markers()
        for key, window in self.windows.items():
            if key in self._unread:
                continue
            try:
                _, high = self._consumer.get_watermark_offsets(TopicPartition(*key), cached=True)
            except KafkaException:
                continue
            if high >= 0:
                metrics.LAG.labels(*key).set(max(0, high - window.position))

    def close(self) -> None:
        """Leave the group."""
        self._consumer.close()

    def _is_member(self) -> bool:
        # The client's main thread answers, and this one holds the interpreter's lock meanwhile:
        # some hundredths of a second at most where this thread polls too, brokers or none.
        return generation(self.group_metadata()) >= 0

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        logger.info("partitions assigned", extra={"partitions": _numbers(partitions)})
        metrics.REBALANCES.labels("assigned").inc()
        self._arrived |= {(p.topic, p.partition) for p in partitions}
        self._next_try = 0.0
        consumer.incremental_assign([])  # or the client would read them at once

    def _take_up(self, now: float) -> None:
        """Bring partitions that arrived nearer to being read, as far as that goes now."""
        try:
            if self._arrived and self._check is None and now >= self._next_try:
                self._ask()
            if self._check is not None and self._check.done():
                self._make_windows()
        except KafkaException as exception:
            self._try_again(exception.args[0])
        ready = [key for key in self._unread if self.windows[key].is_marked]
        if ready:
            starts = [TopicPartition(*key, self.windows[key].position) for key in ready]
            self._consumer.incremental_assign(starts)
            # A pause outlives the assignment in librdkafka: say for each how it is.
            (self._consumer.pause if self._paused else self._consumer.resume)(starts)
            self._unread -= {*ready}

    def _ask(self) -> None:
        """Ask Kafka what is committed of the partitions that arrived, and have the ledger asked.

        Raises:
            KafkaException: nothing can be had now.
        """
        asked = [TopicPartition(*key) for key in self._arrived]
        known = self._answered(self._consumer.committed(asked, _OFFSETS_TIMEOUT_S))
        if known:
            self._asked = {(p.topic, p.partition): p for p in known}
            self._arrived -= self._asked.keys()
            self._check = self._check_arrived(_epochs(known))

    def _make_windows(self) -> None:
        """Begin with partitions that are known to be in this ledger's time.

        Raises:
            LedgerLostError: they are not.
            SourceError: nothing is committed of one any more.
            KafkaException: where some begin cannot be had now: they arrive again.
        """
        check, self._check = self._check, None
        asked, self._asked = self._asked, {}
        if check is None:
            return
        kept = check.result()
        # Whatever comes in between: they are not lost, and not read before all is known.
        self._arrived |= asked.keys()
        begun = [p for p in asked.values() if p.offset >= 0]
        new = [TopicPartition(p.topic, p.partition) for p in asked.values() if p.offset < 0]
        marked = {(p.topic, p.partition) for p in begun if p.metadata}
        self._begin(begun, marked)
        first = self._first_offsets(new)
        self._refuse_forgotten(first, kept)
        self._begin(first, marked)
        if not self._arrived:
            self._last_problem = ""

    def _begin(self, starts: list[TopicPartition], marked: set[Partition]) -> None:
        for start in starts:
            key = (start.topic, start.partition)
            self.windows[key] = PartitionWindow(start.offset, is_marked=key in marked)
            self._unread.add(key)
            self._arrived.remove(key)

    def _first_offsets(self, partitions: list[TopicPartition]) -> list[TopicPartition]:
        """Where those partitions begin of which nothing is committed, and whose leader says so."""
        if not partitions:
            return []
        # One without a leader would fail the question about all.
        found = self._consumer.list_topics(self._topic, _OFFSETS_TIMEOUT_S).topics[self._topic]
        led = {number for number, each in found.partitions.items() if each.leader >= 0}
        when = _LATEST if self._starts_at_end else _EARLIEST
        asked = [TopicPartition(p.topic, p.partition, when) for p in partitions]
        asked = [p for p in asked if p.partition in led]
        if len(asked) < len(partitions):
            self._try_again(KafkaError(KafkaError.LEADER_NOT_AVAILABLE))
        if not asked:
            return []
        return self._answered(self._consumer.offsets_for_times(asked, _OFFSETS_TIMEOUT_S))

    def _answered(self, found: list[TopicPartition]) -> list[TopicPartition]:
        """Those whose offset could be had; the others are asked for again."""
        errors = [each.error for each in found if each.error is not None]
        if errors:
            self._try_again(errors[0])
        return [each for each in found if each.error is None]

    def _refuse_forgotten(self, first: list[TopicPartition], kept: Mapping[int, int]) -> None:
        """Check that nothing was committed before of partitions that begin anew."""
        forgotten = {
            start.partition: kept[start.partition]
            for start in first
            if start.partition in kept
            and (
                kept[start.partition] > start.offset
                # From the end on, what lies between would be passed over.
                or (self._starts_at_end and kept[start.partition] < start.offset)
            )
        }
        if forgotten:
            raise self._forgotten(forgotten)

    def _forgotten(self, offsets: Mapping[int, int]) -> SourceError:
        group, servers = self._settings.kafka.group_id, self._settings.kafka.bootstrap_servers
        partition, offset = min(offsets.items())
        each = ", ".join(f"{number} at {at}" for number, at in sorted(offsets.items()))
        return SourceError(
            f"Kafka has forgotten the committed offsets of group {group} in {self._topic}, as it "
            f"does some time after the group's last member left (offsets.retention.minutes), or "
            f"somebody deleted them. By the ledger, they were: partition {each}. Read from "
            f"elsewhere, records would end twice or not at all, so nothing is read. Stop all "
            f"workers, set the offset of each of these partitions, as with "
            f"kafka-consumer-groups.sh --bootstrap-server {servers} --group {group} "
            f"--topic {self._topic}:{partition} --reset-offsets --to-offset {offset} --execute, "
            f"and start again. Only if all of the topic is to be read anew: DEL "
            f"{keys.input_positions(group)} in Redis"
        )

    def _try_again(self, error: KafkaError) -> None:
        """Ask again after a moment for what could not be had.

        Raises:
            SourceError: it is forbidden.
        """
        if error.code() in FORBIDDEN:
            raise SourceError(f"the committed offsets cannot be read: {error.str()}")
        self._next_try = time.monotonic() + _OFFSETS_RETRY_S
        level = logging.DEBUG if self._last_problem == error.name() else logging.WARNING
        self._last_problem = error.name()
        extra = {"what": "their offsets cannot be had", "error": error.str()}
        logger.log(level, "the assigned partitions cannot be read yet", extra=extra)

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
            metrics.forget_lag(*key)
        self._arrived -= gone
        for key in gone & self._asked.keys():
            del self._asked[key]
        self._unread -= gone
        consumer.incremental_unassign([TopicPartition(*key) for key in read])

    def _report(self, message: Message) -> None:
        error = message.error()
        if error is None:
            return
        if is_permanent(error):
            raise SourceError(f"{self._topic} cannot be read: {error.str()}")
        logger.warning("Kafka reports an error", extra={"error": error.str()})


def _repeat(ask: Callable[[], T], patience_s: float) -> T:
    """Ask Kafka until it answers, or has failed for so long: a coordinator that moves or loads
    refuses at once, and for a while.

    Raises:
        KafkaException: the last failure.
    """
    deadline = time.monotonic() + patience_s
    while True:
        try:
            return ask()
        except KafkaException:
            if time.monotonic() >= deadline:
                raise
        time.sleep(_OFFSETS_RETRY_S)


def _record(message: Message, now: float) -> Record:
    topic, partition, offset = message.topic(), message.partition(), message.offset()
    if topic is None or partition is None or offset is None:
        raise AssertionError("a consumed message has coordinates")
    headers = header_list(message)
    record_id = RecordId(topic, partition, offset)
    if not headers:
        record = Record(record_id, message.key(), message.value(), None, now)
        if headers is None:
            record.resolve(_UNREADABLE_HEADERS, time.time())
        return record
    own, decoded = split_headers(headers)
    first = record_headers.source_id(decoded)
    return Record(
        first if first is not None and first.topic == topic else record_id,
        message.key(),
        message.value(),
        own,
        now,
        offset,
        partition,
        replaced_batch(own),
    )


def _nothing_is_known(committed: set[str]) -> Future[dict[int, int]]:
    del committed
    answer: Future[dict[int, int]] = Future()
    answer.set_result({})
    return answer


def _epochs(committed: list[TopicPartition]) -> set[str]:
    return {p.metadata for p in committed if p.offset >= 0 and p.metadata}


def _numbers(partitions: list[TopicPartition]) -> list[int]:
    return sorted(p.partition for p in partitions)
