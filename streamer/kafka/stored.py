"""Reads what is stored in a topic, from its start or a time to its end, for commands."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import NamedTuple

from confluent_kafka import Consumer, IsolationLevel, TopicPartition
from confluent_kafka.admin import AdminClient

from streamer.kafka.error_log import KafkaErrorLog
from streamer.kafka.headers import header_list
from streamer.kafka.matching import MayMatch
from streamer.kafka.metadata import partitions_of
from streamer.kafka.offsets import (
    EARLIEST,
    LATEST,
    OTHER_LEADER,
    Offsets,
    OffsetsQuestion,
    checked,
)
from streamer.kafka.properties import COMMAND, client_properties, reader_properties
from streamer.kafka.reading import PartitionRead, PartitionReader, ReadError
from streamer.kafka.repeating import repeat
from streamer.model.record import Headers, RecordId
from streamer.model.record_headers import decode_headers
from streamer.settings import Settings

_TIMEOUT_S = 10.0
_LISTED_S = 5.0
"""How long partitions are remembered, so that a command asks once for those of all topics."""
# Longer than an open transaction can block the records after it.
_PATIENCE_S = 60.0

Meter = Callable[[str, int], AbstractContextManager[Callable[[int, int], None]]]
"""A progress display. Called with a label and the total number of offsets, it returns a context
manager whose value is called with the offsets done and the records read so far."""


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
