"""Reading committed records from given offsets, in bounded memory, without a consumer group.

- `PartitionReader`: any partitions, continuously or in spans
- `Reader`: one topic, up to its end offsets at the start
"""

import time
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import NamedTuple, Protocol

from confluent_kafka import (
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient

from streamer.errors import StreamerError
from streamer.kafka.error_log import KafkaErrorLog
from streamer.kafka.headers import header_list
from streamer.kafka.metadata import partitions_of
from streamer.kafka.offsets import (
    EARLIEST,
    LATEST,
    OTHER_LEADER,
    Offsets,
    OffsetsQuestion,
    Partition,
    checked,
)
from streamer.kafka.properties import COMMAND, client_properties, reader_properties
from streamer.kafka.repeating import repeat
from streamer.model.record import Headers, RecordId
from streamer.model.record_headers import decode_headers
from streamer.settings import Settings

FORBIDDEN = (KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED)

_MAX_BYTES = 4_000_000
_PORTIONS = 10
_TIMEOUT_S = 10.0
_LISTED_S = 5.0
"""How long partitions are remembered, so that a command asks once for those of all topics."""
# Longer than an open transaction can block the records after it.
_PATIENCE_S = 60.0

Meter = Callable[[str, int], AbstractContextManager[Callable[[int, int], None]]]
"""A progress display. Called with a label and the total number of offsets, it returns a context
manager whose value is called with the offsets done and the records read so far."""


MayMatch = Callable[[Message], bool]
"""Tells whether a record may be wanted. Called for each record that is read, so it decides how fast
a topic is read."""


def by_value(test: Callable[[bytes], bool]) -> MayMatch:
    """Match records by their value. Null ones match, since the test cannot tell."""

    def may_match(message: Message) -> bool:
        value = message.value()
        return value is None or test(value)

    return may_match


def by_key(key: bytes) -> MayMatch:
    """Match the records of a key."""
    return lambda message: message.key() == key


def by_header(name: str, values: Container[bytes | str | None] | None = None) -> MayMatch:
    """Match records that have a header, with one of these values unless any will do."""
    return lambda message: any(
        header == name and (values is None or value in values)
        for header, value in header_list(message) or ()
    )


def by_offset(places: Container[tuple[int | None, int | None]]) -> MayMatch:
    """Match records by partition and offset."""
    return lambda message: (message.partition(), message.offset()) in places


def all_of(*tests: MayMatch | None) -> MayMatch | None:
    """Match records that match each of the tests that there are; None if there is none."""
    given = [test for test in tests if test is not None]
    if len(given) < 2:
        return given[0] if given else None
    return lambda message: all(test(message) for test in given)


class ReadError(StreamerError):
    """A topic cannot be read. The message says why and how to fix it."""


def is_permanent(error: KafkaError) -> bool:
    """Whether an error returned in place of a record persists until an operator acts."""
    # What a consumer reports once it is of no more use does not count as fatal in this library.
    return error.fatal() or error.code() in (
        KafkaError._FATAL,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        *FORBIDDEN,
    )


def _raise(error: KafkaError) -> None:
    raise KafkaException(error)


class PartitionRead(NamedTuple):
    """The next record of a partition, or its end.

    Attributes:
        start: the position before this read; there is no other record between it and `offset`.
            Greater than `offset` if the topic was recreated.
        message: None at the end of the partition.
    """

    topic: str
    partition: int
    start: int
    offset: int
    message: Message | None

    @property
    def end(self) -> int:
        """The position after this read."""
        return self.offset + (self.message is not None)


class Polled(Protocol):
    """What a `PartitionReader` needs of a consumer, or of its share of one."""

    def consume(self, num_messages: int, timeout: float) -> list[Message]:
        """Return up to so many messages, waiting up to `timeout` seconds."""

    def incremental_assign(self, partitions: list[TopicPartition]) -> None:
        """Start reading partitions."""

    def incremental_unassign(self, partitions: list[TopicPartition]) -> None:
        """Stop reading partitions."""

    def close(self) -> None:
        """Stop reading."""


class PartitionReader:
    """Reads committed records of partitions from given offsets.

    Args:
        consumer: reads for this reader alone; see `reader_properties`.
        portion: the maximum number of records taken from the client at a time.
        wait_s: how long to wait for the first portion.
        on_error: called with errors returned in place of records; raises them by default.

    Attributes:
        positions: the current position in each assigned partition.
        ended: the partitions that have been read to their end.
        passed_over: the number of records that the last `read` left out.
    """

    def __init__(
        self,
        consumer: Polled,
        portion: int,
        wait_s: float = 0.2,
        on_error: Callable[[KafkaError], None] = _raise,
    ) -> None:
        self.positions: dict[Partition, int] = {}
        self.ended: set[Partition] = set()
        self.passed_over = 0
        self._consumer = consumer
        self._portion = portion
        self._wait_s = wait_s
        self._on_error = on_error

    def start(self, offsets: Mapping[Partition, int]) -> None:
        """Add partitions, starting at these offsets; already assigned ones keep their position."""
        new = {each: at for each, at in offsets.items() if each not in self.positions}
        self.positions |= new
        if new:
            self._consumer.incremental_assign(
                [TopicPartition(topic, number, at) for (topic, number), at in new.items()]
            )

    def stop(self, partitions: Collection[Partition]) -> None:
        """Stop reading these partitions."""
        for partition in partitions:
            del self.positions[partition]
        self.ended.difference_update(partitions)
        if partitions:
            self._consumer.incremental_unassign([TopicPartition(*each) for each in partitions])

    def read(self, may_match: MayMatch | None = None) -> list[PartitionRead]:
        """Return the records that have arrived, in order within each partition.

        Waits up to `wait_s` for the first of them.

        Args:
            may_match: leave out records that do not match.

        Raises:
            KafkaException: a topic cannot be read.
        """
        found: list[PartitionRead] = []
        count = size = self.passed_over = 0
        while count < _PORTIONS * self._portion and size < _MAX_BYTES:
            messages = self._consumer.consume(self._portion, 0.0 if count else self._wait_s)
            if not messages:
                break
            count += len(messages)
            last: dict[Partition, int] = {}
            if may_match is not None:
                arrived = len(messages)
                messages, last = _matching(messages, may_match)
                self.passed_over += arrived - len(messages)
            for message in messages:
                seen = self._read_message(message)
                if seen is not None:
                    found.append(seen)
                    size += len(message.value() or b"") if seen.message else 0
            for partition, offset in last.items():
                if offset >= self.positions.get(partition, offset + 1):
                    self.positions[partition] = offset + 1
                    self.ended.discard(partition)
        return found

    def read_spans(
        self,
        topic: str,
        spans: Mapping[int, Sequence[tuple[int, int]]],
        patience_s: float,
        may_match: MayMatch | None = None,
    ) -> Iterator[list[PartitionRead]]:
        """Yield the records of these spans as they arrive, in order within each partition.

        Args:
            spans: half-open offset ranges `(start, end)` by partition.
            patience_s: how long to wait without receiving anything while records of a span are
                not committed yet, or not shown by a new leader.
            may_match: as for `read`.

        Raises:
            ReadError: nothing arrived within `patience_s`.
            KafkaException: the topic cannot be read.
        """
        self.stop([*self.positions])
        for at in range(max(map(len, spans.values()), default=0)):
            now = {(topic, p): of_one[at] for p, of_one in spans.items() if at < len(of_one)}
            self.start({partition: start for partition, (start, _) in now.items()})
            ends = {partition: end for partition, (_, end) in now.items()}
            heard = time.monotonic()
            while ends:
                inside, done = [], set()
                found = self.read(may_match)
                for seen in found:
                    partition = (topic, seen.partition)
                    end = ends.get(partition)
                    if end is None or seen.offset < seen.start:
                        continue
                    if seen.message is not None and seen.offset < end:
                        inside.append(seen)
                    if seen.end >= end:
                        done.add(partition)
                        del ends[partition]
                if self.passed_over:
                    passed = {each for each, end in ends.items() if self.positions[each] >= end}
                    done |= passed
                    ends = {each: end for each, end in ends.items() if each not in passed}
                self.stop(done)
                yield inside
                if found or self.passed_over:
                    heard = time.monotonic()
                elif time.monotonic() - heard > patience_s:
                    (_, number), end = next(iter(ends.items()))
                    raise ReadError(
                        f"cannot read {topic}/{number} from offset "
                        f"{self.positions[topic, number]} to {end}: nothing was received for "
                        f"{patience_s:.0f} s. Check that its broker is running, and that no "
                        f"transaction stays open"
                    )

    def close(self) -> None:
        """Close the consumer."""
        self._consumer.close()

    def _read_message(self, message: Message) -> PartitionRead | None:
        """Convert a message; None for errors and for partitions that are not assigned."""
        error = message.error()
        if error is not None and error.code() != KafkaError._PARTITION_EOF:
            self._on_error(error)
            return None
        topic, number, offset = message.topic(), message.partition(), message.offset()
        if topic is None or number is None or offset is None:
            return None
        partition = (topic, number)
        start = self.positions.get(partition)
        if start is None:
            return None
        seen = PartitionRead(topic, number, start, offset, message if error is None else None)
        if start <= offset:
            self.positions[partition] = seen.end
            self.ended.discard(partition)
            if error is not None:
                self.ended.add(partition)
        return seen


def _matching(
    messages: list[Message], may_match: MayMatch
) -> tuple[list[Message], dict[Partition, int]]:
    """Return the messages that are errors or match, and the last offsets of the others."""
    matching = []
    last: dict[int | None, Message] = {}
    for message in messages:
        if message.error() is not None or may_match(message):
            matching.append(message)
        else:
            last[message.partition()] = message  # of one topic: no partition is read of two
    return matching, {
        (message.topic() or "", number): message.offset() or 0
        for number, message in last.items()
        if number is not None
    }


class PartitionRange(NamedTuple):
    """The half-open offset range `[start, end)` of a partition."""

    partition: int
    start: int
    end: int


class StoredRecord(NamedTuple):
    """A record as stored in a topic."""

    record_id: RecordId
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers

    @property
    def decoded_headers(self) -> dict[str, str]:
        """The headers as text."""
        return decode_headers(self.headers)


class Reader:
    """Reads committed records for a command, one topic at a time.

    Args:
        kafka_errors: receives the clients' background errors.
        meter: shows the progress.
    """

    def __init__(self, settings: Settings, kafka_errors: KafkaErrorLog, meter: Meter) -> None:
        self.kafka_errors = kafka_errors
        self._meter = meter
        self._topics: list[str] = [*settings.topics.model_dump().values()]
        self._numbers: dict[str, list[int]] = {}
        self._listed_until = 0.0
        # Tuned for throughput: larger fetches than a worker's, but still bounded.
        properties = reader_properties(
            settings, COMMAND, settings.kafka.group_id, read_ahead_kb=4_096, fetch_bytes=262_144
        )
        properties["fetch.wait.max.ms"] = 50  # how long a fetch waits at the end of a topic
        self._consumer = Consumer(properties, error_cb=kafka_errors.note)
        self._reader = PartitionReader(self._consumer, 500)
        self._clients = ExitStack()
        self._admin = self._clients.enter_context(
            AdminClient(client_properties(settings, COMMAND), error_cb=kafka_errors.note)
        )

    def close(self) -> None:
        """Close the clients."""
        self._clients.close()
        self._reader.close()

    def spans(self, topic: str, *, include_open_transactions: bool = False) -> list[PartitionRange]:
        """Return the whole topic, from its first to its current end offsets.

        Args:
            include_open_transactions: extend to the high watermark, past transactions that are
                open now; reading then waits until they are committed or aborted. Otherwise stop
                at the first open transaction.

        Raises:
            ReadError: the topic does not exist.
            KafkaException: a request to Kafka failed.
        """
        (found,) = self.spans_of([topic], include_open_transactions=include_open_transactions)
        return found

    def spans_of(
        self, topics: Sequence[str], *, include_open_transactions: bool = False
    ) -> list[list[PartitionRange]]:
        """Return several topics as `spans` does, in as many requests as for one.

        Raises: see `spans`.
        """
        numbers = [self._partitions(topic) for topic in topics]
        level = (
            IsolationLevel.READ_UNCOMMITTED
            if include_open_transactions
            else IsolationLevel.READ_COMMITTED
        )
        partitions = [(t, n) for t, of_one in zip(topics, numbers, strict=True) for n in of_one]

        def ask() -> list[Offsets]:
            asked = [
                OffsetsQuestion(self._admin, partitions, spec, level) for spec in (EARLIEST, LATEST)
            ]
            return [question.answer() for question in asked]

        # As in a topic that was created just now.
        lows, highs = repeat(ask, _TIMEOUT_S, lambda error: error.code() in OTHER_LEADER)
        return [
            [PartitionRange(n, lows[topic, n], highs[topic, n]) for n in of_one]
            for topic, of_one in zip(topics, numbers, strict=True)
        ]

    def _partitions(self, topic: str) -> list[int]:
        """Return the topic's partitions, from what Kafka said of all topics moments ago."""
        now = time.monotonic()
        if now >= self._listed_until:
            # Both are asked. One that has to find the leaders by itself while it connects may look
            # again only after 1 s (the consumer) or 3 s (the admin client): librdkafka 2.16.
            for client in (self._admin, self._consumer):
                self._numbers = partitions_of(client, {*self._topics, topic})
            self._listed_until = now + _LISTED_S
        if topic not in self._numbers:
            raise ReadError(f"topic {topic} does not exist; create it with: streamer topics create")
        return self._numbers[topic]

    def since(
        self, topic: str, spans: Iterable[PartitionRange], timestamp_ms: int
    ) -> list[PartitionRange]:
        """Return the spans, each starting at its first record with at least this timestamp."""
        spans = list(spans)
        asked = [TopicPartition(topic, span.partition, timestamp_ms) for span in spans]
        found = {
            each.partition: each.offset
            for each in checked(self._consumer.offsets_for_times(asked, _TIMEOUT_S))
        }
        # A negative offset means that no record is that recent.
        return [
            span._replace(start=min(max(span.start, offset), span.end) if offset >= 0 else span.end)
            for span in spans
            for offset in (found[span.partition],)
        ]

    def whole_since(self, topic: str, timestamp_ms: int | None) -> list[PartitionRange]:
        """Return the topic from its first committed record of this time or later, up to its very
        end: past transactions that are open now, for which reading waits.

        Raises: see `spans`.
        """
        if timestamp_ms is None:
            return self.spans(topic, include_open_transactions=True)
        # Kafka finds no record by its time behind an open transaction, so that one begins there.
        begun = self.since(topic, self.spans(topic), timestamp_ms)
        whole = self.spans(topic, include_open_transactions=True)
        return [span._replace(start=at.start) for span, at in zip(whole, begun, strict=True)]

    def read(
        self,
        topic: str,
        spans: Iterable[PartitionRange],
        label: str | None = None,
        may_match: MayMatch | None = None,
    ) -> Iterator[StoredRecord]:
        """Yield the committed records of the spans, in order within each partition.

        Args:
            label: the label of the progress display; None shows no progress.
            may_match: leave out records that do not match.

        Raises:
            ReadError: an open transaction or an unavailable broker blocks reading.
            KafkaException: a request to Kafka failed.
        """
        wanted = {s.partition: [(s.start, s.end)] for s in spans if s.start < s.end}
        if not wanted:
            return
        ends = {(topic, partition): end for partition, ((_, end),) in wanted.items()}
        total = sum(end - start for ((start, end),) in wanted.values())
        count = 0
        with nullcontext(_show_nothing) if label is None else self._meter(label, total) as show:
            for found in self._reader.read_spans(topic, wanted, _PATIENCE_S, may_match):
                yield from map(_stored, found)
                count += len(found) + self._reader.passed_over
                positions = self._reader.positions
                left = sum(ends[each] - at for each, at in positions.items())
                show(total - left, count)


def _show_nothing(offsets: int, records: int) -> None:
    del offsets, records


def _stored(seen: PartitionRead) -> StoredRecord:
    message = seen.message
    if message is None:
        raise AssertionError("the end of a partition is not a record")
    return StoredRecord(
        RecordId(seen.topic, seen.partition, seen.offset),
        message.timestamp()[1],
        message.key(),
        message.value(),
        header_list(message) or [],
    )
