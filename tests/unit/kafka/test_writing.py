"""What a command writes: in transactions of some size, each record once, as much as Kafka takes."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.kafka import writing
from streamer.kafka.error_log import KafkaErrorLog
from streamer.kafka.writing import Outgoing, TransactionalWriter, WriteError, chunked
from streamer.settings import Settings
from tests.unit.kafka.fake import ABORTABLE, FENCED, TIMED_OUT, TOO_LARGE, FakeProducer


@settings(deadline=None)  # to copy megabytes takes its time
@given(st.lists(st.sampled_from([0, 1, 1_000_000, 3_000_000, 5_000_000]), max_size=30))
def test_chunks_are_bounded_and_complete(sizes: list[int]) -> None:
    blob = bytes(5_000_000)
    records = [Outgoing(0, None, blob[:size], []) for size in sizes]
    chunks = list(chunked(records))
    assert [record for chunk in chunks for record in chunk] == records
    for chunk in chunks:
        assert len(chunk) == 1 or sum(record.size for record in chunk) <= writing.CHUNK_BYTES


def test_chunks_are_limited_in_records() -> None:
    records = [Outgoing(0, None, None, [])] * (2 * writing.CHUNK_RECORDS + 1)
    assert [len(chunk) for chunk in chunked(records)] == [writing.CHUNK_RECORDS] * 2 + [1]


@pytest.fixture
def writer(fake: FakeProducer) -> TransactionalWriter:
    settings = Settings()
    made = TransactionalWriter(settings, "dlq", KafkaErrorLog(settings), writing.no_checkpoint)
    fake.said.clear()
    return made


def _records(*values: bytes) -> list[Outgoing]:
    return [Outgoing(0, None, value, []) for value in values]


def test_too_large_records_are_found_by_halving(
    fake: FakeProducer, writer: TransactionalWriter
) -> None:
    fake.refuses[b"c"] = TOO_LARGE
    records = _records(b"a", b"b", b"c")
    written = list(writer.write(records))
    assert written == [(records[0], True), (records[1], True), (records[2], False)]
    committed = [said for said in fake.said if said != "init"]
    assert committed == [
        *("begin", "a", "b", "c", "abort"),
        *("begin", "a", "commit"),
        *("begin", "b", "c", "abort"),
        *("begin", "b", "commit"),
        *("begin", "c", "abort"),
    ]


def test_aborted_chunks_are_written_again(fake: FakeProducer, writer: TransactionalWriter) -> None:
    fake.fail("commit", ABORTABLE)
    records = _records(b"a")
    assert list(writer.write(records)) == [(records[0], True)]
    assert fake.said == ["begin", "a", "commit", "abort", "begin", "a", "commit"]
    assert fake.made == 1


def test_an_unknown_commit_is_reported(
    fake: FakeProducer, writer: TransactionalWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "_PATIENCE_S", 0.0)
    fake.fail("commit", TIMED_OUT)
    with pytest.raises(WriteError, match="the command is safe to repeat"):
        list(writer.write(_records(b"a")))
    assert fake.said == ["begin", "a", "commit"]


def test_being_replaced_is_reported(fake: FakeProducer, writer: TransactionalWriter) -> None:
    fake.fail("begin", FENCED)
    with pytest.raises(WriteError, match="another command of this kind"):
        list(writer.write(_records(b"a")))


def test_repeated_aborts_are_given_up(fake: FakeProducer, writer: TransactionalWriter) -> None:
    fake.fail("commit", *[ABORTABLE] * 9)
    with pytest.raises(WriteError, match="another generation"):
        list(writer.write(_records(b"a")))
    assert fake.said.count("commit") == 3


def test_a_committed_half_is_told_before_the_other_fails(
    fake: FakeProducer, writer: TransactionalWriter
) -> None:
    fake.refuses[b"b"] = TOO_LARGE
    records = _records(b"a", b"b")
    written = writer.write(records)
    assert next(written) == (records[0], True)
    fake.fail("begin", FENCED)
    with pytest.raises(WriteError):
        next(written)
