"""Readers read each record once, between their bounds, and wait for what is not decided."""

import pytest
from confluent_kafka import KafkaError, KafkaException, Message
from hypothesis import given
from hypothesis import strategies as st

from streamer.kafka import reading
from streamer.kafka.matching import MayMatch, all_of, by_header, by_key, by_offset, by_value
from streamer.kafka.properties import reader_properties
from streamer.kafka.reading import PartitionRead, PartitionReader, ReadError
from streamer.settings import Settings
from tests.kit.fakes.kafka import FakeKafka
from tests.unit.kafka.written import A, B, write, write_in_open_transaction

_SETTINGS = Settings()
_PROPERTIES = reader_properties(_SETTINGS, "me", "g", read_ahead_kb=1, fetch_bytes=1)


@pytest.fixture
def reader(kafka: FakeKafka) -> PartitionReader:
    return PartitionReader(kafka.consumer(_PROPERTIES), 10)


def _offsets(seen: list[PartitionRead]) -> list[tuple[int, int]]:
    return [(each.partition, each.offset) for each in seen if each.message is not None]


def test_positions_follow_reading(kafka: FakeKafka, reader: PartitionReader) -> None:
    for value in (b"0", b"2", b"4"):
        write(kafka, value)
    write(kafka, b"0", partition=B)
    reader.start({A: 1, B: 0})
    found = reader.read()
    assert [(s.partition, s.start, s.offset, s.end) for s in found] == [
        (0, 1, 2, 3),
        (0, 3, 4, 5),
        (0, 5, 6, 6),
        (1, 0, 0, 1),
        (1, 1, 2, 2),
    ]
    assert [s.message is None for s in found] == [False, False, True, False, True]
    assert reader.positions == {A: 6, B: 2}
    assert reader.ended == {A, B}
    write(kafka, b"6", b"7")
    kafka.consumers[-1].pause(kafka.consumers[-1].assignment())
    assert reader.read() == []
    kafka.consumers[-1].resume(kafka.consumers[-1].assignment())
    assert _offsets(reader.read()) == [(0, 6), (0, 7)]
    assert reader.ended == {A, B}


def test_another_record_ends_an_end(
    kafka: FakeKafka, reader: PartitionReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader.start({A: 0})
    reader.read()
    assert reader.ended == {A}
    monkeypatch.setattr(reading, "_PORTIONS", 1)
    write(kafka, *[b"v"] * 11)
    reader.read()
    assert reader.positions == {A: 10}
    assert reader.ended == set()


def test_assigned_partitions_continue(kafka: FakeKafka, reader: PartitionReader) -> None:
    write(kafka, *[b"v"] * 5)
    write(kafka, *[b"v"] * 9, partition=B)
    reader.start({A: 3})
    reader.start({A: 0, B: 5})
    assert reader.positions == {A: 3, B: 5}
    reader.stop([A])
    assert reader.positions == {B: 5}
    kafka.consumers[-1].give(Message(*A, 3, None, b"late"))
    assert {seen.partition for seen in reader.read()} == {1}  # what came late is nobody's
    assert reader.positions == {B: 10}


def test_a_recreated_topic_is_reported_and_moves_nothing(
    kafka: FakeKafka, reader: PartitionReader
) -> None:
    write(kafka, *[b"v"] * 4)
    reader.start({A: 5})
    kafka.consumers[-1].give(Message(*A, 0, None, b"another"))
    seen = reader.read()[0]
    assert (seen.start, seen.offset) == (5, 0)
    assert reader.positions == {A: 5}


def test_errors_are_raised_or_reported(kafka: FakeKafka) -> None:
    error = KafkaError(KafkaError._TRANSPORT)
    reader = PartitionReader(kafka.consumer(_PROPERTIES), 10)
    kafka.consumers[-1].give(Message(error=error))
    with pytest.raises(KafkaException):
        reader.read()
    told: list[KafkaError] = []
    reader = PartitionReader(kafka.consumer(_PROPERTIES), 10, on_error=told.append)
    kafka.consumers[-1].give(Message(error=error))
    assert reader.read() == []
    assert told == [error]


def test_permanent_errors() -> None:
    assert reading.is_permanent(KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART))
    assert reading.is_permanent(KafkaError(KafkaError.GROUP_AUTHORIZATION_FAILED))
    assert reading.is_permanent(KafkaError(KafkaError._FENCED, "", True))
    assert reading.is_permanent(KafkaError(KafkaError._FATAL))
    assert not reading.is_permanent(KafkaError(KafkaError._TRANSPORT))


def test_only_the_spans_are_read_in_order(kafka: FakeKafka, reader: PartitionReader) -> None:
    kafka.create("other", 1)
    reader.start({("other", 0): 0})
    write(kafka, *[b"v"] * 12)
    write(kafka, b"v", b"v", partition=B)
    spans = {0: [(2, 3), (8, 10)], 1: [(0, 2)]}
    batches = [_offsets(found) for found in reader.read_spans("t", spans, 60.0)]
    assert batches == [[(0, 2), (1, 0), (1, 1)], [(0, 8), (0, 9)]]
    assert kafka.consumers[-1].assignment() == []
    assert reader.positions == {}


def test_a_span_ends_without_remaining_records(kafka: FakeKafka, reader: PartitionReader) -> None:
    """Its last offsets may be those of a transaction's end, which are no records."""
    write(kafka, b"a")
    write(kafka, b"b")
    found = [*reader.read_spans("t", {0: [(0, 4)]}, 60.0)]
    assert [offset for each in found for offset in _offsets(each)] == [(0, 0), (0, 2)]


def test_open_transactions_are_awaited(kafka: FakeKafka, reader: PartitionReader) -> None:
    write(kafka, b"a")
    producer = write_in_open_transaction(kafka, b"open")
    waited = reader.read_spans("t", {0: [(0, 3)]}, 60.0)
    assert _offsets(next(waited)) == [(0, 0)]
    assert [next(waited) for _ in range(3)] == [[]] * 3
    producer.commit()
    assert [_offsets(found) for found in waited] == [[(0, 2)]]


def test_a_stalled_read_is_an_error(kafka: FakeKafka, reader: PartitionReader) -> None:
    write(kafka, b"a")
    write_in_open_transaction(kafka, b"open")
    spans = reader.read_spans("t", {0: [(0, 3)]}, 60.0)
    assert _offsets(next(spans)) == [(0, 0)]
    kafka.is_down = True
    started = kafka.clock.now
    with pytest.raises(ReadError, match=r"cannot read t/0 from offset 2 to 3: .* for 60 s"):
        for _ in spans:
            pass
    assert 60 < kafka.clock.now - started < 61
    # What was left of it does not stand in the way of the next.
    kafka.is_down = False
    assert [_offsets(found) for found in reader.read_spans("t", {0: [(0, 1)]}, 0.0)] == [[(0, 0)]]


def test_an_expired_transaction_is_not_awaited(kafka: FakeKafka, reader: PartitionReader) -> None:
    write(kafka, b"a")
    write_in_open_transaction(kafka, b"open")
    started = kafka.clock.now
    found = [*reader.read_spans("t", {0: [(0, 3)]}, 60.0)]
    assert [offset for each in found for offset in _offsets(each)] == [(0, 0)]
    assert 10 < kafka.clock.now - started < 11


@pytest.mark.parametrize("most_bytes", [25, 4_000_000])
def test_records_behind_a_bound_are_read_later(
    kafka: FakeKafka, monkeypatch: pytest.MonkeyPatch, most_bytes: int
) -> None:
    """A reader that is bounded, in records and bytes, drops nothing that the client gave it."""
    for at in range(100):
        kafka.write((("t", n % 2), b"%d" % (10 * at + n), None, []) for n in range(10))
    monkeypatch.setattr(reading, "_PORTIONS", 3)
    monkeypatch.setattr(reading, "_MAX_BYTES", most_bytes)
    reader = PartitionReader(kafka.consumer(_PROPERTIES), 10)
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
        for found in reader.read_spans("t", {0: [(start, limit)], 1: [(start, limit)]}, 60.0):
            values += [int(s.message.value() or b"") for s in found if s.message]
    assert sorted(values) == [*range(1_000)]


@given(st.data())
def test_spans_yield_exactly_their_records(data: st.DataObject) -> None:
    kafka = FakeKafka({"t": 2})
    with pytest.MonkeyPatch.context() as patch:
        kafka.install(patch, reading)
        for partition, count in data.draw(
            st.lists(st.tuples(st.integers(0, 1), st.integers(1, 4)), max_size=8)
        ):
            values = data.draw(st.lists(st.sampled_from([b"v", b"w"]), min_size=count))
            write(kafka, *values, partition=("t", partition))
        spans: dict[int, list[tuple[int, int]]] = {}
        for partition in (0, 1):
            end = kafka.logs["t", partition].end
            cuts = sorted(data.draw(st.sets(st.integers(0, end), max_size=6)))
            bounds = zip(cuts[::2], cuts[1::2], strict=False)
            spans[partition] = [(start, stop) for start, stop in bounds if start < stop]
        reader = PartitionReader(kafka.consumer(_PROPERTIES), data.draw(st.integers(1, 5)))
        wanted = data.draw(st.sampled_from([None, b"v", b"neither"]))
        test = None if wanted is None else by_value(wanted.__eq__)
        found = [*reader.read_spans("t", spans, 60.0, test)]
    expected = {
        (partition, offset)
        for partition, of_one in spans.items()
        for start, stop in of_one
        for offset in range(start, stop)
        if (stored := kafka.logs["t", partition].committed().get(offset)) is not None
        and (wanted is None or stored.value == wanted)
    }
    read = [offset for each in found for offset in _offsets(each)]
    assert sorted(read) == sorted(expected)


def test_a_span_ends_with_a_record_that_is_passed_over(kafka: FakeKafka) -> None:
    write(kafka, *[b"w"] * 100)
    reader = PartitionReader(kafka.consumer(_PROPERTIES), 1)
    assert [*reader.read_spans("t", {0: [(0, 5)]}, 60.0, by_value(b"v".__eq__))] == [[]]
    assert reader.passed_over == 10  # of the first read, not of the whole partition
    assert reader.positions == {}


def _is_w(value: bytes) -> bool:
    return value == b"w"


@pytest.mark.parametrize(
    ("may_match", "offsets"),
    [
        (by_value(_is_w), [1, 2]),
        (by_key(b"k"), [0, 1]),
        (by_header("reason"), [1, 2]),
        (by_header("reason", {b"x", b"y"}), [2]),
        (by_offset({(0, 0), (1, 1), (0, 2)}), [0, 2]),
        (all_of(by_key(b"k"), None, by_value(_is_w)), [1]),
        (all_of(None, by_key(b"other")), [2]),
        (all_of(None), [0, 1, 2]),
    ],
)
def test_records_that_do_not_match_are_left_out(
    kafka: FakeKafka, reader: PartitionReader, may_match: MayMatch | None, offsets: list[int]
) -> None:
    kafka.write(
        [
            (A, b"v", b"k", []),
            (A, b"w", b"k", [("reason", b"z")]),
            (A, None, b"other", [("trace", b"y"), ("reason", b"x")]),
        ]
    )
    found = [
        offset
        for each in reader.read_spans("t", {0: [(0, 3)]}, 60.0, may_match)
        for _, offset in _offsets(each)
    ]
    assert found == offsets
