"""Reading committed records from given offsets, in bounded memory, without a consumer group."""

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition

from streamer.errors import StreamerError
from streamer.kafka.matching import MayMatch
from streamer.kafka.offsets import Partition

FORBIDDEN = (KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED)

_MAX_BYTES = 4_000_000
_PORTIONS = 10


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
