"""Reading a topic's committed records, in constant memory, to the end that it had at the start."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from confluent_kafka import (
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # public, yet not re-exported
    AdminClient,
    OffsetSpec,
)

from streamer.cli.common import KafkaTrouble, client_config, fail
from streamer.cli.meter import meter
from streamer.errors import StreamerError
from streamer.flow.gone import Gone
from streamer.model.marks import words
from streamer.model.record import Coordinates, Headers, header_list
from streamer.progress.kafka import GroupOffsets
from streamer.settings import Settings
from streamer.worker.kafka import consumer_config

_EARLIEST: OffsetSpec = OffsetSpec.earliest()  # type: ignore[no-untyped-call]  # theirs is bare
_LATEST: OffsetSpec = OffsetSpec.latest()  # type: ignore[no-untyped-call]  # theirs is bare
_TIMEOUT_S = 10.0
_WAIT_S = 0.2
_AT_A_TIME = 500
# As long as an open transaction may hold the records behind it back, and then some.
_PATIENCE_S = 60.0


class ReadError(StreamerError):
    """A topic cannot be read; the message says why and what to do."""


class Span(NamedTuple):
    """The offsets of a partition from `start` to before `end`."""

    partition: int
    start: int
    end: int


class Stored(NamedTuple):
    """A record as it stands in a topic."""

    coordinates: Coordinates
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers

    @property
    def words(self) -> dict[str, str]:
        """Its headers as text."""
        return words(self.headers)


class Reader:
    """Reads committed records, a topic at a time. It joins no group and commits nothing.

    Attributes:
        trouble: knows what the connection met.
    """

    def __init__(self, settings: Settings, trouble: KafkaTrouble) -> None:
        self.trouble = trouble
        self._settings = settings
        self._consumer = Consumer(
            {
                **consumer_config(settings),
                "client.id": "streamer-cli",
                "log_level": 0,
                "enable.partition.eof": True,
                # Read for its throughput: larger fetches than a worker's, and still bounded.
                "queued.max.messages.kbytes": 4_096,
                "max.partition.fetch.bytes": 262_144,
                "fetch.wait.max.ms": 50,  # at the end of a topic it is waited for so long
                # What was aborted never happened, whatever the operator's properties say.
                "isolation.level": "read_committed",
            },
            error_cb=trouble.note,
        )
        self._admin = AdminClient(client_config(settings), error_cb=trouble.note)

    def close(self) -> None:
        """Let go of the connections."""
        self._consumer.close()

    def spans(self, topic: str, *, undecided: bool = False) -> list[Span]:
        """All of a topic, from its beginning to its end as it is now.

        Args:
            undecided: to the very end, transactions that are open now included: reading then
                waits until it is decided what became of them. Otherwise to the first of these.

        Raises:
            ReadError: there is no such topic.
            KafkaException: Kafka cannot be used.
        """
        partitions = [TopicPartition(topic, number) for number in self._partitions(topic)]
        level = IsolationLevel.READ_UNCOMMITTED if undecided else IsolationLevel.READ_COMMITTED
        lows = self._offsets(partitions, _EARLIEST, level)
        highs = self._offsets(partitions, _LATEST, level)
        return [Span(number, lows[number], highs[number]) for number in sorted(lows)]

    def since(self, topic: str, spans: Iterable[Span], timestamp_ms: int) -> list[Span]:
        """The spans without the records before the first one of that time or a later one."""
        spans = list(spans)
        asked = [TopicPartition(topic, span.partition, timestamp_ms) for span in spans]
        found = {
            each.partition: each.offset
            for each in self._consumer.offsets_for_times(asked, _TIMEOUT_S)
        }
        # A negative offset: nothing is that young.
        return [
            span._replace(start=min(max(span.start, offset), span.end) if offset >= 0 else span.end)
            for span in spans
            for offset in (found[span.partition],)
        ]

    def read(self, topic: str, spans: Iterable[Span], label: str | None = None) -> Iterator[Stored]:
        """The committed records of the spans; those of a partition in their order.

        Args:
            label: what to call it while it is shown how far it is; None: it is not shown.

        Raises:
            ReadError: a transaction, or Kafka, keeps it from going on.
            KafkaException: Kafka cannot be used.
        """
        left = {span.partition: span for span in spans if span.start < span.end}
        if not left:
            return
        if label is None:
            for batch in self._batches(topic, left):
                yield from batch
            return
        total = sum(span.end - span.start for span in left.values())
        with meter(label, total) as show:
            count = 0
            for batch in self._batches(topic, left):
                yield from batch
                count += len(batch)
                show(total - sum(span.end - span.start for span in left.values()), count)

    def left(self, topic: str, partitions: Iterable[int], group: str) -> dict[int, Gone]:
        """Who has left the partitions of the parked topic, by the offsets of the relay's group.

        Raises:
            ReadError: another version wrote them.
        """
        offsets = GroupOffsets(self._settings, group)
        try:
            found = offsets.read((topic, partition) for partition in partitions)
            return {p: Gone.read(each.offset, each.metadata) for (_, p), each in found.items()}
        except ValueError as error:
            raise ReadError(f"the offsets of group {group}: {error}") from None
        finally:
            offsets.close()

    def _batches(self, topic: str, left: dict[int, Span]) -> Iterator[list[Stored]]:
        """Read what is left; each span loses its beginning, and goes when nothing is left of it."""
        assigned = [TopicPartition(topic, span.partition, span.start) for span in left.values()]
        self._consumer.assign(assigned)
        self._consumer.resume(assigned)  # a pause outlives the assignment in librdkafka
        heard = time.monotonic()
        while left:
            messages = self._consumer.consume(_AT_A_TIME, _WAIT_S)
            batch = []
            for message in messages:
                stored = _stored(message)
                partition, position = _position(message)
                span = left.get(partition)
                if span is None:
                    continue
                if stored is not None and stored.coordinates.offset < span.end:
                    batch.append(stored)
                if position < span.end:
                    left[partition] = span._replace(start=max(span.start, position))
                else:
                    del left[partition]
                    self._consumer.pause([TopicPartition(topic, partition)])
            yield batch
            if messages:
                heard = time.monotonic()
            elif time.monotonic() - heard > _PATIENCE_S:
                raise _stuck(topic, left)

    def _partitions(self, topic: str) -> list[int]:
        # Asked for all topics, as a question for one by its name might create it.
        found = self._consumer.list_topics(timeout=_TIMEOUT_S).topics.get(topic)
        if found is None:
            raise ReadError(f"topic {topic} does not exist; create it: streamer topics create")
        return list(found.partitions)

    def _offsets(
        self, partitions: list[TopicPartition], spec: OffsetSpec, level: IsolationLevel
    ) -> dict[int, int]:
        asked = dict.fromkeys(partitions, spec)
        futures = self._admin.list_offsets(asked, isolation_level=level, request_timeout=_TIMEOUT_S)
        return {each.partition: future.result().offset for each, future in futures.items()}


@contextmanager
def topic_reader(settings: Settings) -> Iterator[Reader]:
    """A reader; the command ends with 1 if Kafka cannot be used or a topic cannot be read."""
    trouble = KafkaTrouble(settings)
    reader: Reader | None = None
    try:
        reader = Reader(settings, trouble)
        yield reader
    except ReadError as error:
        fail(error)
    except KafkaException as error:
        fail(trouble.describe(error.args[0]))
    finally:
        if reader is not None:
            reader.close()


def _stored(message: Message) -> Stored | None:
    """The record in a message; None for the news that a partition has no more for now."""
    error = message.error()
    if error is not None:
        if error.code() == KafkaError._PARTITION_EOF:
            return None
        raise KafkaException(error)
    topic, partition, offset = message.topic(), message.partition(), message.offset()
    if topic is None or partition is None or offset is None:
        raise AssertionError("a consumed message has coordinates")
    return Stored(
        Coordinates(topic, partition, offset),
        message.timestamp()[1],
        message.key(),
        message.value(),
        header_list(message) or [],
    )


def _position(message: Message) -> tuple[int, int]:
    """The partition, and the offset up to which it has been read with this message."""
    partition, offset = message.partition(), message.offset()
    if partition is None or offset is None:
        raise AssertionError("a message has coordinates, and so has the end of a partition")
    return partition, offset if message.error() is not None else offset + 1


def _stuck(topic: str, left: dict[int, Span]) -> ReadError:
    partition, start, end = next(iter(left.values()))
    return ReadError(
        f"{topic}/{partition} cannot be read from offset {start} to {end}: nothing came for "
        f"{_PATIENCE_S:.0f} s. Is its broker running, or is a transaction open for long?"
    )
