"""The consuming side: the thread that owns the consumer, its assignment and its windows."""

import logging
import time
from collections.abc import Callable, Iterable
from typing import cast

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # public, yet not re-exported
    TopicMetadata,
)

from streamer import metrics
from streamer.errors import StreamerError
from streamer.flow.window import Partition, PartitionWindow
from streamer.kafka.headers import header_list
from streamer.kafka.offsets import checked, committed, generation
from streamer.kafka.properties import member_properties
from streamer.kafka.reading import FORBIDDEN, is_permanent
from streamer.ledger.connection import UNREACHABLE
from streamer.logs import client_logger
from streamer.model import marks
from streamer.model.reasons import DeadReason
from streamer.model.record import Coordinates, DeadLetter, Record
from streamer.model.wire import replaced_batch, split_headers
from streamer.settings import Settings

logger = logging.getLogger(__name__)

Windows = dict[Partition, PartitionWindow]

_OFFSETS_TIMEOUT_S = 2.0
_OFFSETS_RETRY_S = 0.5
# An open transaction of a worker that died holds its offsets back: for its time limit, and until
# the broker looks for such, each 10 s.
_START_PATIENCE_S = 25.0
_METADATA_TIMEOUT_S = 15.0
_EARLIEST, _LATEST = -2, -1  # as times, in Kafka's protocol
_AT_END = ("latest", "largest", "end")  # each means the same to librdkafka
_UNREADABLE_HEADERS = DeadLetter(DeadReason.UNDECODABLE, "the name of a header is not UTF-8")


class SourceError(StreamerError):
    """The input cannot be read; the message says why and what to do."""


class Source:
    """Input records from Kafka. Only the thread that made it may call it.

    A partition that arrives goes through three states, each left as `poll` is called, so that a
    rebalance waits for nobody:
    - arrived: it is this member's, and nothing is known of it yet;
    - its window is there: its offsets belong to this ledger. The ledger's epoch is not yet in
      their metadata where they were never committed, or by another tool; then that is committed
      first, with the windows' other offsets. A ledger that is lost while a first batch is under
      way would be taken for a new one otherwise, and all of it mailed again;
    - it is read.

    """

    def __init__(self, settings: Settings) -> None:
        self._topic = settings.topics.recipients
        self._verify_epochs: Callable[[set[str]], None] = lambda _: None
        self._on_revoke: Callable[[Windows], None] = lambda _: None
        config = member_properties(settings)
        self._starts_at_end = config["auto.offset.reset"] in _AT_END
        self._consumer = Consumer(config, logger=client_logger("source"))
        self._paused = False
        self._arrived: set[Partition] = set()
        self._unread: set[Partition] = set()
        """Of those with a window."""
        self._next_try = 0.0
        self._trouble = ""
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
        deadline = time.monotonic() + _START_PATIENCE_S
        while True:
            try:
                return _epochs(self._committed(partitions))
            except KafkaException as exception:
                # A coordinator that moves, or loads, answers so at once, and for a while.
                if time.monotonic() >= deadline:
                    raise _unknown_offsets(exception) from None
                time.sleep(_OFFSETS_RETRY_S)

    def partitions_of(self, topic: str) -> int:
        """How many partitions a topic has.

        Raises:
            SourceError: Kafka does not answer, or there is no such topic.
        """
        return len(self._metadata(topic).partitions)

    def _metadata(self, name: str) -> TopicMetadata:
        try:
            topic = self._consumer.list_topics(name, _METADATA_TIMEOUT_S).topics[name]
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

    def start(
        self, verify_epochs: Callable[[set[str]], None], on_revoke: Callable[[Windows], None]
    ) -> None:
        """Join the group.

        Args:
            verify_epochs: is given the ledger epochs of the offsets of partitions that arrive;
                raises LedgerLostError, or one of UNREACHABLE if that cannot be said now.
            on_revoke: is called with the windows of partitions that are given up in good order,
                to finish and commit what is possible. Afterwards they are gone.
        """
        self._verify_epochs, self._on_revoke = verify_epochs, on_revoke
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

    def measure(self) -> None:
        """See whether this is a member still, how far the partitions are read, and their lag."""
        self.joined = self._is_member()
        read = [TopicPartition(*key) for key in self.windows if key not in self._unread]
        for at in self._consumer.position(read) if read else ():
            window = self.windows[at.topic, at.partition]
            # Behind its last record may be the marker of a transaction, which is passed unseen.
            if at.offset >= 0:
                window.pass_to(at.offset)
            try:
                _, high = self._consumer.get_watermark_offsets(at, cached=True)
            except KafkaException:
                continue
            if high >= 0:
                lag = max(0, high - window.position)
                metrics.LAG.labels(at.topic, at.partition).set(lag)

    def close(self) -> None:
        """Leave the group."""
        self._consumer.close()

    def _is_member(self) -> bool:
        return generation(self.group_metadata()) >= 0

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        logger.info("partitions assigned", extra={"partitions": _numbers(partitions)})
        metrics.REBALANCES.labels("assigned").inc()
        self._arrived |= {(p.topic, p.partition) for p in partitions}
        self._next_try = 0.0
        consumer.incremental_assign([])  # or the client would read them at once

    def _take_up(self, now: float) -> None:
        """Bring partitions that arrived nearer to being read, as far as that goes now."""
        if self._arrived and now >= self._next_try:
            try:
                self._make_windows()
                self._trouble = ""
            except UNREACHABLE as error:
                self._try_again("Redis cannot be used", str(error))
            except KafkaException as exception:
                if exception.args[0].code() in FORBIDDEN:
                    raise _unknown_offsets(exception) from None
                self._try_again("their offsets cannot be had", exception.args[0].str())
        ready = [key for key in self._unread if self.windows[key].is_marked]
        if ready:
            starts = [TopicPartition(*key, self.windows[key].position) for key in ready]
            self._consumer.incremental_assign(starts)
            # A pause outlives the assignment in librdkafka: say for each how it is.
            (self._consumer.pause if self._paused else self._consumer.resume)(starts)
            self._unread -= {*ready}

    def _make_windows(self) -> None:
        """Learn where the partitions that arrived begin, and that it is in this ledger's time.

        Raises:
            KafkaException: some of that cannot be had now.
        """
        committed = self._committed(self._arrived)
        self._verify_epochs(_epochs(committed))
        new = [TopicPartition(p.topic, p.partition) for p in committed if p.offset < 0]
        starts = [p for p in committed if p.offset >= 0] + self._first_offsets(new)
        marked = {(p.topic, p.partition) for p in committed if p.offset >= 0 and p.metadata}
        for start in starts:
            key = (start.topic, start.partition)
            self.windows[key] = PartitionWindow(start.offset, is_marked=key in marked)
        self._unread |= self._arrived
        self._arrived = set()

    def _first_offsets(self, partitions: list[TopicPartition]) -> list[TopicPartition]:
        """Where partitions begin of which nothing was ever committed."""
        if not partitions:
            return []
        when = _LATEST if self._starts_at_end else _EARLIEST
        asked = [TopicPartition(p.topic, p.partition, when) for p in partitions]
        return checked(self._consumer.offsets_for_times(asked, _OFFSETS_TIMEOUT_S))

    def _try_again(self, what: str, error: str) -> None:
        self._next_try = time.monotonic() + _OFFSETS_RETRY_S
        level = logging.DEBUG if self._trouble == what else logging.WARNING
        self._trouble = what
        extra = {"what": what, "error": error}
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
        self._unread -= gone
        consumer.incremental_unassign([TopicPartition(*key) for key in read])

    def _committed(self, partitions: Iterable[Partition]) -> list[TopicPartition]:
        """The committed offsets; waits a little for transactions that hold some back."""
        return committed(self._consumer, partitions, _OFFSETS_TIMEOUT_S)

    def _report(self, message: Message) -> None:
        error = message.error()
        if error is None:
            return
        if is_permanent(error):
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


def _unknown_offsets(exception: KafkaException) -> SourceError:
    return SourceError(f"the committed offsets cannot be read: {exception.args[0].str()}")


def _epochs(committed: list[TopicPartition]) -> set[str]:
    return {p.metadata for p in committed if p.offset >= 0 and p.metadata}


def _numbers(partitions: list[TopicPartition]) -> list[int]:
    return sorted(p.partition for p in partitions)
