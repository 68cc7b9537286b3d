"""What a command writes: in transactions of some size, each record once, as much as Kafka takes."""

import pytest
from confluent_kafka import KafkaError
from hypothesis import given
from hypothesis import strategies as st

from streamer.kafka import writing
from streamer.kafka.error_log import KafkaErrorLog
from streamer.kafka.writing import Outgoing, TransactionalWriter, WriteError, chunked
from streamer.settings import Settings
from tests.kit.fakes.kafka import FakeKafka, KafkaApi, Silence

_SETTINGS = Settings()
_BLOBS = {size: bytes(size) for size in (0, 1, 1_000_000, 3_000_000, 5_000_000)}


@given(st.lists(st.sampled_from([*_BLOBS]), max_size=30))
def test_chunks_are_bounded_and_complete(sizes: list[int]) -> None:
    records = [Outgoing(0, None, _BLOBS[size], []) for size in sizes]
    chunks = list(chunked(records))
    assert [record for chunk in chunks for record in chunk] == records
    for chunk in chunks:
        assert len(chunk) == 1 or sum(record.size for record in chunk) <= writing.CHUNK_BYTES


def test_chunks_are_limited_in_records() -> None:
    records = [Outgoing(0, None, None, [])] * (2 * writing.CHUNK_RECORDS + 1)
    assert [len(chunk) for chunk in chunked(records)] == [writing.CHUNK_RECORDS] * 2 + [1]


@pytest.fixture
def writer(kafka: FakeKafka) -> TransactionalWriter:
    kafka.create(_SETTINGS.topics.recipients, 1)
    made = TransactionalWriter(_SETTINGS, "dlq", KafkaErrorLog(_SETTINGS), writing.no_checkpoint)
    kafka.calls.clear()
    return made


def _records(*values: bytes) -> list[Outgoing]:
    return [Outgoing(0, None, value, []) for value in values]


def _written(kafka: FakeKafka) -> list[bytes | None]:
    return kafka.values(_SETTINGS.topics.recipients)


def test_too_large_records_are_found_by_halving(
    kafka: FakeKafka, writer: TransactionalWriter
) -> None:
    kafka.limits[_SETTINGS.topics.recipients] = 10
    records = _records(b"a", b"b", b"c" * 11)
    written = list(writer.write(records))
    assert written == [(records[0], True), (records[1], True), (records[2], False)]
    assert _written(kafka) == [b"a", b"b"]
    # Kafka refuses what comes after a refusal, once; so halves are tried twice.
    assert kafka.calls.count("commit") == 2
    assert kafka.calls.count("abort") == 5


def test_aborted_chunks_are_written_again(kafka: FakeKafka, writer: TransactionalWriter) -> None:
    kafka.answer(KafkaApi.END_TRANSACTION, KafkaError.UNKNOWN_PRODUCER_ID)
    records = _records(b"a")
    assert list(writer.write(records)) == [(records[0], True)]
    assert kafka.calls == ["begin", "a", "commit", "abort", "begin", "a", "commit"]
    assert _written(kafka) == [b"a"]
    assert len(kafka.producers) == 1


@pytest.mark.parametrize("silence", Silence)
def test_an_unknown_commit_is_reported(
    kafka: FakeKafka,
    writer: TransactionalWriter,
    monkeypatch: pytest.MonkeyPatch,
    silence: Silence,
) -> None:
    monkeypatch.setattr(writing, "_PATIENCE_S", 0.0)
    kafka.answer(KafkaApi.END_TRANSACTION, silence)
    with pytest.raises(WriteError, match="the command is safe to repeat"):
        list(writer.write(_records(b"a")))
    assert kafka.calls == ["begin", "a", "commit"]


def test_being_replaced_is_reported(kafka: FakeKafka, writer: TransactionalWriter) -> None:
    TransactionalWriter(_SETTINGS, "dlq", KafkaErrorLog(_SETTINGS), writing.no_checkpoint)
    with pytest.raises(WriteError, match="another command of this kind"):
        list(writer.write(_records(b"a")))
    assert _written(kafka) == []


def test_repeated_aborts_are_given_up(kafka: FakeKafka, writer: TransactionalWriter) -> None:
    for _ in range(9):
        kafka.answer(KafkaApi.END_TRANSACTION, KafkaError.UNKNOWN_PRODUCER_ID, 0)
    with pytest.raises(WriteError, match="Unknown Producer Id"):
        list(writer.write(_records(b"a")))
    assert kafka.calls.count("commit") == 3


def test_a_committed_half_is_told_before_the_other_fails(
    kafka: FakeKafka, writer: TransactionalWriter
) -> None:
    kafka.limits[_SETTINGS.topics.recipients] = 10
    records = _records(b"a", b"b" * 11)
    written = writer.write(records)
    assert next(written) == (records[0], True)
    TransactionalWriter(_SETTINGS, "dlq", KafkaErrorLog(_SETTINGS), writing.no_checkpoint)
    with pytest.raises(WriteError):
        next(written)
