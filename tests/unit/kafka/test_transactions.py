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


def test_an_unknown_commit_is_repeated(fake: FakeProducer, producer: TransactionalProducer) -> None:
    fake.fail("commit", TIMED_OUT, TIMED_OUT)
    _write(producer, b"a")
    assert fake.said == ["begin", "a", "commit", "commit", "commit"]
    assert producer.state is State.READY


def test_an_unknown_commit_is_never_aborted(
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


def test_an_unknown_commit_can_end_in_an_abort(
    fake: FakeProducer, producer: TransactionalProducer
) -> None:
    fake.fail("commit", TIMED_OUT, ABORTABLE)
    with pytest.raises(KafkaException, match="another generation"):
        _write(producer, b"a")
    assert fake.said == ["begin", "a", "commit", "commit", "abort"]
    assert producer.state is State.READY


@pytest.mark.parametrize("call", ["offsets", "commit"])
def test_abortable_errors_abort(
    fake: FakeProducer, producer: TransactionalProducer, call: str
) -> None:
    fake.fail(call, ABORTABLE)
    with pytest.raises(KafkaException, match="another generation"):
        _write_with_offsets(producer)
    assert fake.said[-1] == "abort"
    assert producer.state is State.READY


def test_failures_before_the_commit_abort(
    fake: FakeProducer, producer: TransactionalProducer
) -> None:
    """Also where the error alone does not ask for it: nothing is committed yet."""
    fake.fail("offsets", TIMED_OUT)
    with pytest.raises(KafkaException, match="nobody answered"):
        _write_with_offsets(producer)
    assert fake.said == ["begin", "a", "offsets", "abort"]


def test_an_unknown_abort_is_repeated(fake: FakeProducer, producer: TransactionalProducer) -> None:
    fake.fail("commit", ABORTABLE)
    fake.fail("abort", TIMED_OUT, TIMED_OUT)
    with pytest.raises(KafkaException, match="another generation"):
        _write(producer, b"a")
    assert fake.said[-3:] == ["abort", "abort", "abort"]
    assert producer.state is State.READY


def test_a_failed_abort_can_be_retried(fake: FakeProducer, producer: TransactionalProducer) -> None:
    fake.fail("offsets", ABORTABLE)
    fake.fail("abort", TIMED_OUT)
    with pytest.raises(KafkaException, match="nobody answered"):
        _write_with_offsets(producer)
    assert producer.state is State.OPEN
    producer.abort()
    _write(producer, b"a")
    assert fake.said == ["begin", "a", "offsets", "abort", "abort", "begin", "a", "commit"]


@pytest.mark.parametrize("call", ["begin", "produce", "offsets", "commit"])
def test_a_fenced_producer_is_lost(
    fake: FakeProducer, producer: TransactionalProducer, call: str
) -> None:
    fake.fail(call, FENCED)
    with pytest.raises(KafkaException) as caught:
        _write_with_offsets(producer)
    assert is_fenced(caught.value.args[0])
    assert producer.state is State.LOST
    assert "abort" not in fake.said


def test_an_abort_can_detect_fencing(fake: FakeProducer, producer: TransactionalProducer) -> None:
    fake.refuses[b"a"] = KafkaError(KafkaError._PURGE_QUEUE)
    fake.fail("abort", FENCED)
    with pytest.raises(KafkaException) as caught:
        _write(producer, b"a")
    assert is_fenced(caught.value.args[0])
    assert producer.state is State.LOST


def test_other_commit_errors_lose_the_producer(
    fake: FakeProducer, producer: TransactionalProducer
) -> None:
    fake.fail("commit", CONFLICT)
    with pytest.raises(KafkaException, match="a commit had begun"):
        _write(producer, b"a")
    assert producer.state is State.LOST
    assert "abort" not in fake.said


def test_a_failed_begin_can_be_retried(fake: FakeProducer, producer: TransactionalProducer) -> None:
    fake.fail("begin", TIMED_OUT)
    with pytest.raises(KafkaException):
        _write(producer, b"a")
    assert producer.state is State.READY
    _write(producer, b"a")
    assert fake.said == ["begin", "begin", "a", "commit"]


def test_initialisation_is_retried(fake: FakeProducer) -> None:
    fake.fail("init", TIMED_OUT, TIMED_OUT)
    assert TransactionalProducer(Settings(), "me", "me").state is State.READY
    assert fake.said == ["init"] * 3
    assert fake.made == 1


@pytest.mark.parametrize(("error", "patience_s"), [(TIMED_OUT, 0.0), (FENCED, 60.0)])
def test_initialisation_fails_permanently_or_after_its_patience(
    fake: FakeProducer, error: KafkaError, patience_s: float
) -> None:
    fake.fail("init", error)
    with pytest.raises(KafkaException):
        TransactionalProducer(Settings(), "me", "me", patience_s)
    assert fake.said == ["init"]


def test_a_new_client_fences_the_lost_one(
    fake: FakeProducer, producer: TransactionalProducer
) -> None:
    fake.fail("commit", FENCED)
    with pytest.raises(KafkaException):
        _write(producer, b"a")
    _write(TransactionalProducer(Settings(), "me", "me"), b"b")
    assert fake.made == 2
    assert fake.said[-4:] == ["init", "begin", "b", "commit"]


def test_the_first_rejected_record_is_the_cause(
    fake: FakeProducer, producer: TransactionalProducer
) -> None:
    fake.refuses = {b"b": TOO_LARGE, b"c": KafkaError(KafkaError._PURGE_QUEUE)}
    with pytest.raises(KafkaException, match="too large"):
        _write(producer, b"a", b"b", b"c")
    assert fake.said == ["begin", "a", "b", "c", "abort"]
    _write(producer, b"a")  # it is of that transaction alone


def test_callbacks_receive_each_rejection(
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


def test_a_full_client_queue_is_an_ordinary_error(
    fake: FakeProducer, producer: TransactionalProducer
) -> None:
    fake.fail("produce", BufferError("Local: Queue full"))
    with pytest.raises(KafkaException) as caught:
        _write(producer, b"a")
    assert caught.value.args[0].code() == KafkaError._QUEUE_FULL
    assert fake.said == ["begin", "a", "abort"]
