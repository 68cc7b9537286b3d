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
def test_chunks_are_bounded_and_lose_nothing(sizes: list[int]) -> None:
    blob = bytes(5_000_000)
    records = [Outgoing(0, None, blob[:size], []) for size in sizes]
    chunks = list(chunked(records))
    assert [record for chunk in chunks for record in chunk] == records
    for chunk in chunks:
        assert len(chunk) == 1 or sum(record.size for record in chunk) <= writing.CHUNK_BYTES


def test_a_chunk_has_a_number_of_records_at_most() -> None:
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


def test_what_is_too_large_is_found_by_halves(
    fake: FakeProducer, writer: TransactionalWriter
) -> None:
    fake.refuses[b"c"] = TOO_LARGE
    records = _records(b"a", b"b", b"c")
    assert writer.write(records) == records[2:]
    committed = [said for said in fake.said if said != "init"]
    assert committed == [
        *("begin", "a", "b", "c", "abort"),
        *("begin", "a", "commit"),
        *("begin", "b", "c", "abort"),
        *("begin", "b", "commit"),
        *("begin", "c", "abort"),
    ]


def test_after_an_abort_the_same_is_written_again(
    fake: FakeProducer, writer: TransactionalWriter
) -> None:
    fake.fail("commit", ABORTABLE)
    assert writer.write(_records(b"a")) == []
    assert fake.said == ["begin", "a", "commit", "abort", "begin", "a", "commit"]
    assert fake.made == 1


def test_an_end_that_stays_unknown_is_said(
    fake: FakeProducer, writer: TransactionalWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "_PATIENCE_S", 0.0)
    fake.fail("commit", TIMED_OUT)
    with pytest.raises(WriteError, match="the command is safe to repeat"):
        writer.write(_records(b"a"))
    assert fake.said == ["begin", "a", "commit"]


def test_a_command_in_this_ones_place_is_said(
    fake: FakeProducer, writer: TransactionalWriter
) -> None:
    fake.fail("begin", FENCED)
    with pytest.raises(WriteError, match="another command of this kind"):
        writer.write(_records(b"a"))


def test_what_is_aborted_again_and_again_is_given_up(
    fake: FakeProducer, writer: TransactionalWriter
) -> None:
    fake.fail("commit", *[ABORTABLE] * 9)
    with pytest.raises(WriteError, match="another generation"):
        writer.write(_records(b"a"))
    assert fake.said.count("commit") == 3
