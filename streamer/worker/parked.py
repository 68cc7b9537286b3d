"""The parked topic: reading it, and moving its records."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from streamer.flow.gone import Span
from streamer.logs import client_logger
from streamer.model import marks
from streamer.model.record import Headers, Parked, header_list
from streamer.model.wire import read_parked
from streamer.settings import Settings
from streamer.worker import kafka

_PORTION = 50
_MOST = 1_000
_MOST_BYTES = 4_000_000
_WAIT_S = 0.2


class Copy(NamedTuple):
    """A parked record where it stands now.

    Attributes:
        headers: all of them.
        home: the partition of the input in which it first stood.
    """

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    home: int
    wait: Parked


class Seen(NamedTuple):
    """What came of a partition next.

    Attributes:
        start: from here to the offset there is no other record.
        message: None at the end of the partition.
    """

    partition: int
    start: int
    offset: int
    message: Message | None


class ParkedReader:
    """Reads committed records of the parked topic, from given offsets on; it joins no group.

    Attributes:
        positions: by partition, the end of what was read; of those that are read.
        ended: the partitions that are read to their ends.
        consumer: for questions about the cluster and the group.
    """

    def __init__(self, settings: Settings) -> None:
        self.positions: dict[int, int] = {}
        self.ended: set[int] = set()
        self.consumer = Consumer(
            {**kafka.consumer_config(settings), "enable.partition.eof": True},
            logger=client_logger("relay"),
        )
        self._topic = settings.topics.parked

    def start(self, offsets: Mapping[int, int]) -> None:
        """Read further partitions, from these offsets on."""
        self.positions |= offsets
        self.consumer.incremental_assign(
            [TopicPartition(self._topic, partition, at) for partition, at in offsets.items()]
        )

    def stop(self, partitions: Collection[int]) -> None:
        """Read these no more."""
        for partition in partitions:
            del self.positions[partition]
        self.consumer.incremental_unassign([TopicPartition(self._topic, p) for p in partitions])

    def read(self) -> list[Seen]:
        """What came, of each partition in its order; waits a moment if nothing did.

        Raises:
            KafkaException: the topic cannot be read.
        """
        found: list[Seen] = []
        size = 0
        while len(found) < _MOST and size < _MOST_BYTES:
            messages = self.consumer.consume(_PORTION, 0.0 if found else _WAIT_S)
            if not messages:
                break
            for message in messages:
                seen = self._seen(message)
                if seen is not None:
                    found.append(seen)
                    size += len(message.value() or b"") if seen.message else 0
        return found

    def read_spans(self, spans: Mapping[int, Sequence[Span]]) -> Iterator[Seen]:
        """The records of these spans alone, in the order of each partition."""
        rounds = max(map(len, spans.values()), default=0)
        for at in range(rounds):
            ends = {p: of_one[at].end for p, of_one in spans.items() if at < len(of_one)}
            self.start({p: spans[p][at].start for p in ends})
            while ends:
                done: set[int] = set()
                for seen in self.read():
                    end = ends.get(seen.partition, 0)
                    if seen.message is not None and seen.offset < end:
                        yield seen
                    if seen.message is None or seen.offset + 1 >= end:
                        done.add(seen.partition)
                done &= ends.keys()
                if done:
                    self.stop(done)
                    for partition in done:
                        del ends[partition]

    def close(self) -> None:
        """Let go of the connections."""
        self.consumer.close()

    def _seen(self, message: Message) -> Seen | None:
        """None for what belongs to nothing that is read."""
        partition, offset = message.partition(), message.offset()
        error = message.error()
        if error is not None and error.code() != KafkaError._PARTITION_EOF:
            raise KafkaException(error)
        if partition is None or offset is None:
            return None
        start = self.positions.get(partition)
        if start is None or offset < start:
            return None
        if error is not None:
            self.ended.add(partition)
            return Seen(partition, start, offset, None)
        self.ended.discard(partition)
        self.positions[partition] = offset + 1
        return Seen(partition, start, offset, message)


def read_copy(seen: Seen) -> Copy | None:
    """A parked record; None for one that streamer did not write, as nothing says where it
    first stood."""
    message = seen.message
    headers = None if message is None else header_list(message)
    if message is None or headers is None:
        return None
    words = marks.words(headers)
    first = marks.source(words)
    if first is None:
        return None
    return Copy(
        seen.partition,
        seen.offset,
        message.key(),
        message.value(),
        headers,
        first.partition,
        read_parked(words),
    )
