"""Readers read each record once, between their bounds, and wait for what is not decided."""

import pytest
from confluent_kafka import KafkaError, KafkaException, Message

from streamer.kafka import reading
from streamer.kafka.reading import PartitionRead, PartitionReader, ReadError
from tests.unit.kafka.fake import FakeConsumer, end, record
from tests.unit.kafka.fake_kafka import FakeKafka

A, B = ("t", 0), ("t", 1)


@pytest.fixture
def reader(consumer: FakeConsumer) -> PartitionReader:
    return PartitionReader({}, 10)


def _offsets(seen: list[PartitionRead]) -> list[tuple[int, int]]:
    return [(each.partition, each.offset) for each in seen if each.message is not None]


def test_positions_follow_reading(consumer: FakeConsumer, reader: PartitionReader) -> None:
    reader.start({A: 3, B: 0})
    consumer.put(record(3), record(7), record(1, partition=1), end(9))
    found = reader.read()
    assert [(s.start, s.offset, s.end) for s in found] == [
        (3, 3, 4),
        (4, 7, 8),
        (0, 1, 2),
        (8, 9, 9),
    ]
    assert found[-1].message is None
    assert reader.positions == {A: 9, B: 2}
    assert reader.ended == {A}
    consumer.put(record(9))
    reader.read()
    assert reader.ended == set()


def test_assigned_partitions_continue(consumer: FakeConsumer, reader: PartitionReader) -> None:
    reader.start({A: 3})
    reader.start({A: 0, B: 5})
    assert consumer.assigned == {A: 3, B: 5}
    reader.stop([A])
    assert consumer.assigned == reader.positions == {B: 5}
    consumer.put(record(3), record(4, partition=1))
    assert [seen.partition for seen in reader.read()] == [1]  # what came late is nobody's


def test_a_recreated_topic_is_reported_and_moves_nothing(
    consumer: FakeConsumer, reader: PartitionReader
) -> None:
    reader.start({A: 5})
    consumer.put(record(0))
    (seen,) = reader.read()
    assert (seen.start, seen.offset) == (5, 0)
    assert reader.positions == {A: 5}


def test_errors_are_raised_or_reported(consumer: FakeConsumer) -> None:
    error = KafkaError(KafkaError._TRANSPORT)
    reader = PartitionReader({}, 10)
    consumer.put(Message(error=error))
    with pytest.raises(KafkaException):
        reader.read()
    told: list[KafkaError] = []
    reader = PartitionReader({}, 10, on_error=told.append)
    consumer.put(Message(error=error))
    assert reader.read() == []
    assert told == [error]


def test_permanent_errors() -> None:
    assert reading.is_permanent(KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART))
    assert reading.is_permanent(KafkaError(KafkaError.GROUP_AUTHORIZATION_FAILED))
    assert reading.is_permanent(KafkaError(KafkaError._FENCED, "", True))
    assert not reading.is_permanent(KafkaError(KafkaError._TRANSPORT))


def test_only_the_spans_are_read_in_order(consumer: FakeConsumer, reader: PartitionReader) -> None:
    reader.start({("other", 0): 0})
    consumer.put(record(2), record(3), record(0, partition=1))
    consumer.put(record(1, partition=1))
    consumer.put(record(8), record(9), record(10))
    spans = {0: [(2, 3), (8, 10)], 1: [(0, 2)]}
    batches = [_offsets(found) for found in reader.read_spans("t", spans)]
    assert batches == [[(0, 2), (1, 0)], [(1, 1)], [(0, 8), (0, 9)]]
    assert consumer.assigned == reader.positions == {}


def test_a_span_ends_without_remaining_records(
    consumer: FakeConsumer, reader: PartitionReader
) -> None:
    """Its last offsets may be those of a transaction's end, which are no records."""
    consumer.put(record(0), end(3))
    assert [_offsets(found) for found in reader.read_spans("t", {0: [(0, 3)]}, 60.0)] == [[(0, 0)]]


def test_open_transactions_are_awaited_or_read(
    consumer: FakeConsumer, reader: PartitionReader
) -> None:
    consumer.put(record(0), end(1))
    consumer.put(record(4))
    spans = {0: [(0, 5)]}
    assert [_offsets(found) for found in reader.read_spans("t", spans, 60.0)] == [
        [(0, 0)],
        [(0, 4)],
    ]
    consumer.put(record(0), end(1))
    assert [_offsets(found) for found in reader.read_spans("t", spans)] == [[(0, 0)]]


def test_a_stalled_read_is_an_error(consumer: FakeConsumer, reader: PartitionReader) -> None:
    consumer.put(record(0), end(1))
    with pytest.raises(ReadError, match="cannot read t/0 from offset 1 to 5"):
        for _ in reader.read_spans("t", {0: [(0, 5)]}, 0.0):
            pass
    # What was left of it does not stand in the way of the next.
    consumer.put(record(0))
    assert [_offsets(found) for found in reader.read_spans("t", {0: [(0, 1)]}, 0.0)] == [[(0, 0)]]


@pytest.mark.parametrize("most_bytes", [25, 4_000_000])
def test_records_behind_a_bound_are_read_later(
    monkeypatch: pytest.MonkeyPatch, most_bytes: int
) -> None:
    """A reader that is bounded, in records and bytes, drops nothing that the client gave it."""
    kafka = FakeKafka({"t": 2})
    for at in range(100):
        kafka.write([(("t", n % 2), b"%d" % (10 * at + n), None, []) for n in range(10)])
    monkeypatch.setattr(reading, "Consumer", kafka.consumer)
    monkeypatch.setattr(reading, "_PORTIONS", 3)
    monkeypatch.setattr(reading, "_MAX_BYTES", most_bytes)
    reader = PartitionReader({}, 10)
    reader.start({A: 0, B: 0})
    read: list[PartitionRead] = []
    most = 0
    while reader.ended != {A, B}:
        found = reader.read()
        most = max(most, len(found))
        read += found
    assert most <= 30
    assert sorted(int(s.message.value() or b"") for s in read if s.message) == [*range(1_000)]
    # Up to a limit, and when that is raised, from there on.
    values = []
    for start, limit in ((0, 300), (300, 301), (301, 598), (598, 600)):
        for found in reader.read_spans("t", {0: [(start, limit)], 1: [(start, limit)]}):
            values += [int(s.message.value() or b"") for s in found if s.message]
    assert sorted(values) == [*range(1_000)]
