"""Each end that a transaction can have, and what follows from it."""

import pytest
from confluent_kafka import KafkaError, KafkaException

from streamer.kafka.transactions import State, TransactionalProducer, is_fenced
from streamer.settings import Settings
from tests.unit.kafka.fake import (
    ABORTABLE,
    CONFLICT,
    FENCED,
    TIMED_OUT,
    TOO_LARGE,
    Delivered,
    FakeProducer,
)


@pytest.fixture
def producer(fake: FakeProducer) -> TransactionalProducer:
    made = TransactionalProducer(Settings(), "me", "me")
    fake.said.clear()
    return made


def _write(producer: TransactionalProducer, *values: bytes, patience_s: float = 60.0) -> None:
    with producer.transaction(patience_s):
        for value in values:
            producer.produce("t", value, None)
        producer.flush()


def _write_with_offsets(producer: TransactionalProducer) -> None:
    with producer.transaction():
        producer.produce("t", b"a", None)
        producer.send_offsets([], None)


def test_a_transaction_is_committed(fake: FakeProducer, producer: TransactionalProducer) -> None:
    _write(producer, b"a", b"b")
    assert fake.said == ["begin", "a", "b", "commit"]
    assert producer.state is State.READY


def test_a_commit_of_unknown_end_is_called_again(
    fake: FakeProducer, producer: TransactionalProducer
) -> None:
    fake.fail("commit", TIMED_OUT, TIMED_OUT)
    _write(producer, b"a")
    assert fake.said == ["begin", "a", "commit", "commit", "commit"]
    assert producer.state is State.READY


def test_a_commit_of_unknown_end_is_never_aborted(
    fake: FakeProducer, producer: TransactionalProducer
) -> None:
    fake.fail("commit", TIMED_OUT)
    with pytest.raises(KafkaException, match="nobody answered"):
        _write(producer, b"a", patience_s=0.0)
    assert producer.state is State.COMMITTING
    with pytest.raises(AssertionError):
        producer.abort()
    producer.commit()
    assert fake.said == ["begin", "a", "commit", "commit"]


def test_an_unknown_end_may_turn_out_to_need_an_abort(
    fake: FakeProducer, producer: TransactionalProducer
) -> None:
    fake.fail("commit", TIMED_OUT, ABORTABLE)
    with pytest.raises(KafkaException, match="another generation"):
        _write(producer, b"a")
    assert fake.said == ["begin", "a", "commit", "commit", "abort"]
    assert producer.state is State.READY


@pytest.mark.parametrize("call", ["offsets", "commit"])
def test_what_can_be_aborted_is(
    fake: FakeProducer, producer: TransactionalProducer, call: str
) -> None:
    fake.fail(call, ABORTABLE)
    with pytest.raises(KafkaException, match="another generation"):
        _write_with_offsets(producer)
    assert fake.said[-1] == "abort"
    assert producer.state is State.READY


def test_what_failed_before_the_commit_is_aborted(
    fake: FakeProducer, producer: TransactionalProducer
) -> None:
    """Also where the error alone does not ask for it: nothing is committed yet."""
    fake.fail("offsets", TIMED_OUT)
    with pytest.raises(KafkaException, match="nobody answered"):
        _write_with_offsets(producer)
    assert fake.said == ["begin", "a", "offsets", "abort"]


def test_an_abort_of_unknown_end_is_called_again(
    fake: FakeProducer, producer: TransactionalProducer
) -> None:
    fake.fail("commit", ABORTABLE)
    fake.fail("abort", TIMED_OUT, TIMED_OUT)
    with pytest.raises(KafkaException, match="another generation"):
        _write(producer, b"a")
    assert fake.said[-3:] == ["abort", "abort", "abort"]
    assert producer.state is State.READY


def test_an_abort_that_fails_can_be_tried_later(
    fake: FakeProducer, producer: TransactionalProducer
) -> None:
    fake.fail("offsets", ABORTABLE)
    fake.fail("abort", TIMED_OUT)
    with pytest.raises(KafkaException, match="nobody answered"):
        _write_with_offsets(producer)
    assert producer.state is State.OPEN
    producer.abort()
    _write(producer, b"a")
    assert fake.said == ["begin", "a", "offsets", "abort", "abort", "begin", "a", "commit"]


@pytest.mark.parametrize("call", ["begin", "produce", "offsets", "commit"])
def test_a_producer_that_was_fenced_is_lost(
    fake: FakeProducer, producer: TransactionalProducer, call: str
) -> None:
    fake.fail(call, FENCED)
    with pytest.raises(KafkaException) as caught:
        _write_with_offsets(producer)
    assert is_fenced(caught.value.args[0])
    assert producer.state is State.LOST
    assert "abort" not in fake.said


def test_an_abort_finds_out_that_the_producer_was_fenced(
    fake: FakeProducer, producer: TransactionalProducer
) -> None:
    fake.refuses[b"a"] = KafkaError(KafkaError._PURGE_QUEUE)
    fake.fail("abort", FENCED)
    with pytest.raises(KafkaException) as caught:
        _write(producer, b"a")
    assert is_fenced(caught.value.args[0])
    assert producer.state is State.LOST


def test_a_commit_that_fails_otherwise_is_lost(
    fake: FakeProducer, producer: TransactionalProducer
) -> None:
    fake.fail("commit", CONFLICT)
    with pytest.raises(KafkaException, match="a commit had begun"):
        _write(producer, b"a")
    assert producer.state is State.LOST
    assert "abort" not in fake.said


def test_a_begin_that_failed_can_be_tried_again(
    fake: FakeProducer, producer: TransactionalProducer
) -> None:
    fake.fail("begin", TIMED_OUT)
    with pytest.raises(KafkaException):
        _write(producer, b"a")
    assert producer.state is State.READY
    _write(producer, b"a")
    assert fake.said == ["begin", "begin", "a", "commit"]


def test_the_start_is_tried_again_while_it_can_be(fake: FakeProducer) -> None:
    fake.fail("init", TIMED_OUT, TIMED_OUT)
    assert TransactionalProducer(Settings(), "me", "me").state is State.READY
    assert fake.said == ["init"] * 3
    assert fake.made == 1


@pytest.mark.parametrize(("error", "patience_s"), [(TIMED_OUT, 0.0), (FENCED, 60.0)])
def test_the_start_fails_when_it_cannot_or_nobody_waits(
    fake: FakeProducer, error: KafkaError, patience_s: float
) -> None:
    fake.fail("init", error)
    with pytest.raises(KafkaException):
        TransactionalProducer(Settings(), "me", "me", patience_s)
    assert fake.said == ["init"]


def test_a_new_client_fences_the_one_that_is_lost(
    fake: FakeProducer, producer: TransactionalProducer
) -> None:
    fake.fail("commit", FENCED)
    with pytest.raises(KafkaException):
        _write(producer, b"a")
    _write(TransactionalProducer(Settings(), "me", "me"), b"b")
    assert fake.made == 2
    assert fake.said[-4:] == ["init", "begin", "b", "commit"]


def test_the_first_refusal_of_a_record_is_the_cause(
    fake: FakeProducer, producer: TransactionalProducer
) -> None:
    fake.refuses = {b"b": TOO_LARGE, b"c": KafkaError(KafkaError._PURGE_QUEUE)}
    with pytest.raises(KafkaException, match="too large"):
        _write(producer, b"a", b"b", b"c")
    assert fake.said == ["begin", "a", "b", "c", "abort"]
    _write(producer, b"a")  # it is of that transaction alone


def test_whoever_asks_is_told_of_each_refusal(
    fake: FakeProducer, producer: TransactionalProducer
) -> None:
    """By the client at once, by the broker later, and of some of many."""
    told: list[str] = []

    def teller(name: str) -> Delivered:
        return lambda error, _: told.append(f"{name}: {error.str() if error else ''}")

    fake.fail("produce", TOO_LARGE)
    fake.refuses = {b"later": TOO_LARGE, b"one": TOO_LARGE}
    producer.begin()
    with pytest.raises(KafkaException):
        producer.produce("t", b"at once", None, on_delivery=teller("at once"))
    producer.produce("t", b"later", None, on_delivery=teller("later"))
    fake.fail("offsets", ABORTABLE)
    with pytest.raises(KafkaException):
        producer.send_offsets([], None)
    with pytest.raises(KafkaException):
        producer.produce_batch(
            "t", [(b"other", None, teller("other")), (b"one", None, teller("one"))]
        )
    assert told == ["at once: too large", "later: too large", "one: too large"]
    assert producer.state is State.OPEN


def test_a_full_queue_of_the_client_is_an_error_as_any(
    fake: FakeProducer, producer: TransactionalProducer
) -> None:
    fake.fail("produce", BufferError("Local: Queue full"))
    with pytest.raises(KafkaException) as caught:
        _write(producer, b"a")
    assert caught.value.args[0].code() == KafkaError._QUEUE_FULL
    assert fake.said == ["begin", "a", "abort"]
