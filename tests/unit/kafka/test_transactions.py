"""Each end that a transaction can have, and what follows from it."""

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from streamer.kafka import repeating, transactions
from streamer.kafka.transactions import State, TransactionalProducer, describe_loss, is_fenced
from streamer.settings import Settings
from tests.kit.fakes.kafka import FakeKafka, KafkaApi, Silence
from tests.kit.fakes.kafka.cluster import Answer
from tests.kit.fakes.kafka.producer import Delivered

_SETTINGS = Settings()
_STRANGER = b"CGMDv2:\xff\xff\xff\xffg\x00\x00\x01"


@pytest.fixture
def producer(kafka: FakeKafka) -> TransactionalProducer:
    made = TransactionalProducer(_SETTINGS, "me", "me")
    kafka.calls.clear()
    return made


def _write(producer: TransactionalProducer, *values: bytes, patience_s: float = 60.0) -> None:
    with producer.transaction(patience_s):
        for value in values:
            producer.produce("t", value, None, 0)
        producer.flush()


def _write_with_offsets(producer: TransactionalProducer, patience_s: float = 0.0) -> None:
    with producer.transaction(patience_s):
        producer.produce("t", b"a", None, 0)
        producer.send_offsets([TopicPartition("t", 0, 1)], _STRANGER)


def test_a_transaction_is_committed(kafka: FakeKafka, producer: TransactionalProducer) -> None:
    _write(producer, b"a", b"b")
    assert kafka.calls == ["begin", "a", "b", "commit"]
    assert kafka.values("t") == [b"a", b"b"]
    assert producer.state is State.READY


def test_records_and_offsets_go_together(kafka: FakeKafka, producer: TransactionalProducer) -> None:
    kafka.answer(KafkaApi.COMMIT_OFFSETS, KafkaError.ILLEGAL_GENERATION)
    with pytest.raises(KafkaException):
        _write_with_offsets(producer)
    assert (kafka.values("t"), kafka.group("g").offsets) == ([], {})
    _write_with_offsets(producer)
    assert kafka.values("t") == [b"a"]
    assert kafka.group("g").offsets["t", 0].offset == 1


@pytest.mark.parametrize("silence", Silence)
def test_an_unknown_commit_is_repeated(
    kafka: FakeKafka, producer: TransactionalProducer, silence: Silence
) -> None:
    kafka.answer(KafkaApi.END_TRANSACTION, silence)
    _write(producer, b"a")
    assert kafka.calls == ["begin", "a", "commit", "commit"]
    assert kafka.values("t") == [b"a"]
    assert producer.state is State.READY


@pytest.mark.parametrize("silence", Silence)
def test_an_unknown_commit_is_never_aborted(
    kafka: FakeKafka, producer: TransactionalProducer, silence: Silence
) -> None:
    kafka.answer(KafkaApi.END_TRANSACTION, silence)
    with pytest.raises(KafkaException, match="Timed out"):
        _write(producer, b"a", patience_s=0.0)
    assert producer.state is State.COMMITTING
    with pytest.raises(AssertionError):
        producer.abort()
    producer.commit()
    assert kafka.calls == ["begin", "a", "commit", "commit"]
    assert kafka.values("t") == [b"a"]


def test_an_unknown_commit_is_repeated_for_the_patience_only(
    kafka: FakeKafka, producer: TransactionalProducer
) -> None:
    kafka.answer(KafkaApi.END_TRANSACTION, *[Silence.UNHEARD] * 99)
    started = kafka.clock.now
    with pytest.raises(KafkaException, match="Timed out"):
        _write(producer, b"a", patience_s=5.0)
    # A call of five seconds, a pause, and the last call; a broker would have ended it by then.
    assert kafka.clock.now - started == pytest.approx(5.0)
    assert kafka.calls.count("commit") == 1
    kafka.answer(KafkaApi.END_TRANSACTION)
    assert producer.state is State.COMMITTING


def test_an_unknown_commit_can_end_in_an_abort(
    kafka: FakeKafka, producer: TransactionalProducer
) -> None:
    kafka.answer(KafkaApi.END_TRANSACTION, Silence.UNHEARD, KafkaError.INVALID_PRODUCER_ID_MAPPING)
    with pytest.raises(KafkaException, match="producer id"):
        _write(producer, b"a")
    assert kafka.calls == ["begin", "a", "commit", "commit", "abort"]
    assert producer.state is State.READY
    _write(producer, b"a")
    assert kafka.values("t") == [b"a"]


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (KafkaApi.COMMIT_OFFSETS, KafkaError.ILLEGAL_GENERATION),
        (KafkaApi.COMMIT_OFFSETS, KafkaError.UNKNOWN_MEMBER_ID),
        (KafkaApi.END_TRANSACTION, KafkaError.UNKNOWN_PRODUCER_ID),
        (KafkaApi.PRODUCE, KafkaError.INVALID_RECORD),
        # Nothing is committed yet, also where the error alone does not ask for an abort.
        (KafkaApi.ADD_OFFSETS, Silence.UNHEARD),
        (KafkaApi.ADD_OFFSETS, Silence.UNANSWERED),
    ],
)
def test_failures_before_the_commit_abort(
    kafka: FakeKafka, producer: TransactionalProducer, request_: KafkaApi, code: Answer
) -> None:
    kafka.answer(request_, code)
    with pytest.raises(KafkaException):
        _write_with_offsets(producer)
    assert kafka.calls[-1] == "abort"
    assert producer.state is State.READY
    assert kafka.values("t") == []


@pytest.mark.parametrize("silence", Silence)
def test_an_unknown_abort_is_repeated(
    kafka: FakeKafka, producer: TransactionalProducer, silence: Silence
) -> None:
    kafka.answer(KafkaApi.COMMIT_OFFSETS, KafkaError.ILLEGAL_GENERATION)
    kafka.answer(KafkaApi.END_TRANSACTION, silence, silence)
    with pytest.raises(KafkaException, match="generation"):
        _write_with_offsets(producer, patience_s=60.0)
    assert kafka.calls.count("abort") > 1
    assert producer.state is State.READY
    _write(producer, b"b")
    assert kafka.values("t") == [b"b"]


def test_a_failed_abort_can_be_retried(kafka: FakeKafka, producer: TransactionalProducer) -> None:
    kafka.answer(KafkaApi.COMMIT_OFFSETS, KafkaError.ILLEGAL_GENERATION)
    kafka.answer(KafkaApi.END_TRANSACTION, Silence.UNHEARD)
    with pytest.raises(KafkaException, match="Timed out"):
        _write_with_offsets(producer)
    assert producer.state is State.OPEN
    producer.abort()
    _write(producer, b"a")
    assert kafka.calls == ["begin", "a", "offsets", "abort", "abort", "begin", "a", "commit"]


def test_an_abort_beyond_the_transaction_timeout_is_fenced(
    kafka: FakeKafka, producer: TransactionalProducer
) -> None:
    """So to repeat it is safe: it ends as soon as the broker hears of it, one way or the other."""
    kafka.answer(KafkaApi.COMMIT_OFFSETS, KafkaError.ILLEGAL_GENERATION)
    kafka.answer(KafkaApi.END_TRANSACTION, *[Silence.UNHEARD] * 12)
    with pytest.raises(KafkaException, match="Timed out"):
        _write_with_offsets(producer)
    began = kafka.clock.now
    for _ in range(11):
        with pytest.raises(KafkaException, match="Timed out"):
            producer.abort()
    with pytest.raises(KafkaException) as caught:
        producer.abort()
    assert kafka.clock.now - began < 13  # each of them is short, as the worker has to poll
    assert is_fenced(caught.value.args[0])
    assert producer.state is State.LOST
    assert kafka.values("t") == []


@pytest.mark.parametrize("call", ["begin", "produce", "offsets", "commit"])
def test_a_fenced_producer_is_lost(
    kafka: FakeKafka, producer: TransactionalProducer, call: str
) -> None:
    fenced = KafkaError(KafkaError._FENCED, "fenced", True, False, False)
    kafka.producers[-1].fail(call, fenced)
    with pytest.raises(KafkaException) as caught:
        _write_with_offsets(producer)
    assert is_fenced(caught.value.args[0])
    assert producer.state is State.LOST
    assert "abort" not in kafka.calls


def test_a_successor_fences(kafka: FakeKafka, producer: TransactionalProducer) -> None:
    producer.begin()
    producer.produce("t", b"a", None, 0)
    successor = TransactionalProducer(_SETTINGS, "me", "me")
    with pytest.raises(KafkaException) as caught:
        producer.commit()
    assert is_fenced(caught.value.args[0])
    assert "was fenced" in describe_loss(caught.value.args[0])
    assert producer.state is State.LOST
    _write(successor, b"b")
    assert kafka.values("t") == [b"b"]


def test_a_flush_can_detect_fencing(kafka: FakeKafka, producer: TransactionalProducer) -> None:
    TransactionalProducer(_SETTINGS, "me", "me")
    producer.begin()
    producer.produce("t", b"a", None, 0)
    with pytest.raises(KafkaException) as caught:
        producer.flush()
    assert is_fenced(caught.value.args[0])
    assert producer.state is State.LOST


def test_an_abort_can_detect_fencing(kafka: FakeKafka, producer: TransactionalProducer) -> None:
    kafka.answer(KafkaApi.COMMIT_OFFSETS, KafkaError.PRODUCER_FENCED)
    kafka.answer(KafkaApi.END_TRANSACTION, KafkaError.PRODUCER_FENCED)
    with pytest.raises(KafkaException) as caught:
        _write_with_offsets(producer)
    assert is_fenced(caught.value.args[0])
    assert producer.state is State.LOST


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        (KafkaError.INVALID_TXN_STATE, "a broker crash"),
        (KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, "is unusable"),
    ],
)
def test_fatal_commit_errors_lose_the_producer(
    kafka: FakeKafka, producer: TransactionalProducer, code: int, cause: str
) -> None:
    kafka.answer(KafkaApi.END_TRANSACTION, code)
    with pytest.raises(KafkaException) as caught:
        _write(producer, b"a")
    assert producer.state is State.LOST
    assert cause in describe_loss(caught.value.args[0])
    assert "abort" not in kafka.calls


def test_other_commit_errors_lose_the_producer(
    kafka: FakeKafka, producer: TransactionalProducer
) -> None:
    kafka.producers[-1].fail("commit", KafkaError(KafkaError._STATE))
    with pytest.raises(KafkaException):
        _write(producer, b"a")
    assert producer.state is State.LOST
    assert "abort" not in kafka.calls


def test_a_failed_begin_can_be_retried(kafka: FakeKafka, producer: TransactionalProducer) -> None:
    kafka.producers[-1].fail("begin", KafkaError(KafkaError._TIMED_OUT))
    with pytest.raises(KafkaException):
        _write(producer, b"a")
    assert producer.state is State.READY
    _write(producer, b"a")
    assert kafka.calls == ["begin", "begin", "a", "commit"]


# The start


@pytest.mark.parametrize("answer", [*Silence, KafkaError.CONCURRENT_TRANSACTIONS])
def test_initialisation_is_retried(kafka: FakeKafka, answer: Answer) -> None:
    kafka.answer(KafkaApi.INIT_PRODUCER_ID, *[answer] * 4)
    producer = TransactionalProducer(_SETTINGS, "me", "me")
    assert {*kafka.calls} == {"init"}
    assert len(kafka.producers) == 1
    _write(producer, b"a")
    assert kafka.values("t") == [b"a"]


def test_initialisation_fails_permanently(kafka: FakeKafka) -> None:
    kafka.answer(KafkaApi.INIT_PRODUCER_ID, KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED)
    with pytest.raises(KafkaException):
        TransactionalProducer(_SETTINGS, "me", "me")
    assert kafka.calls == ["init"]


@pytest.mark.parametrize(("patience_s", "calls"), [(0.0, 1), (25.0, 5)])
def test_initialisation_fails_after_its_patience(
    kafka: FakeKafka, patience_s: float, calls: int
) -> None:
    kafka.is_down = True
    with pytest.raises(KafkaException, match="Timed out"):
        TransactionalProducer(_SETTINGS, "me", "me", patience_s)
    assert kafka.calls == ["init"] * calls


# Records that are refused


def test_the_first_rejected_record_is_the_cause(
    kafka: FakeKafka, producer: TransactionalProducer
) -> None:
    kafka.limits["t"] = 10
    with pytest.raises(KafkaException, match="too large"):
        _write(producer, b"a", b"b" * 11, b"c")
    assert kafka.calls == ["begin", "a", "b" * 11, "c", "abort"]
    # It is of that transaction alone; the next one has another, as contracts show.
    with pytest.raises(KafkaException, match="out of order"):
        _write(producer, b"a")
    _write(producer, b"a")


def test_callbacks_receive_each_rejection(
    kafka: FakeKafka, producer: TransactionalProducer
) -> None:
    """By the client at once, by the broker later, and of some of many."""
    told: list[str] = []

    def teller(name: str) -> Delivered:
        return lambda error, _: told.append(f"{name}: {error.name() if error else ''}")

    kafka.create("small", 1, limit=10)
    producer.begin()
    with pytest.raises(KafkaException):
        producer.produce("t", bytes(10_000_001), None, on_delivery=teller("at once"))
    producer.produce("small", b"x" * 11, None, 0, on_delivery=teller("later"))
    kafka.answer(KafkaApi.COMMIT_OFFSETS, KafkaError.ILLEGAL_GENERATION)
    with pytest.raises(KafkaException):
        producer.send_offsets([TopicPartition("t", 0, 1)], _STRANGER)
    producer.abort()
    assert [each for each in told if "PURGE" not in each] == ["at once: MSG_SIZE_TOO_LARGE"]
    producer.begin()
    with pytest.raises(KafkaException):
        producer.produce_batch(
            "t",
            [
                {"value": b"other", "key": None, "callback": teller("other")},
                {"value": bytes(10_000_001), "key": None, "callback": teller("one")},
            ],
        )
    assert told[-1] == "one: MSG_SIZE_TOO_LARGE"
    assert producer.state is State.OPEN
    producer.abort()
    producer.begin()
    producer.produce("small", b"x" * 11, None, 0, on_delivery=teller("by the broker"))
    with pytest.raises(KafkaException):
        producer.commit()
    assert told[-1] == "by the broker: MSG_SIZE_TOO_LARGE"


def test_a_full_client_queue_is_an_ordinary_error(
    kafka: FakeKafka, producer: TransactionalProducer
) -> None:
    kafka.producers[-1].fail("produce", BufferError("Local: Queue full"))
    with pytest.raises(KafkaException) as caught:
        _write(producer, b"a")
    assert caught.value.args[0].code() == KafkaError._QUEUE_FULL
    assert kafka.calls == ["begin", "a", "abort"]


def test_metadata_is_refreshed(kafka: FakeKafka, producer: TransactionalProducer) -> None:
    producer.refresh_metadata()
    kafka.is_down = True
    with pytest.raises(KafkaException):
        producer.refresh_metadata()


# Whatever happens

_APIS = (
    KafkaApi.PRODUCE,
    KafkaApi.ADD_OFFSETS,
    KafkaApi.COMMIT_OFFSETS,
    KafkaApi.END_TRANSACTION,
)
_ANSWERS: tuple[Answer, ...] = (
    *Silence,
    KafkaError.NOT_COORDINATOR,
    KafkaError.ILLEGAL_GENERATION,
    KafkaError.INVALID_PRODUCER_ID_MAPPING,
    KafkaError.INVALID_PRODUCER_EPOCH,
    KafkaError.INVALID_TXN_STATE,
)


@given(st.lists(st.tuples(st.sampled_from(_APIS), st.sampled_from(_ANSWERS)), max_size=12))
def test_any_answers_commit_each_record_once(
    answers: list[tuple[KafkaApi, Answer]],
) -> None:
    """Of a writer that goes on where the committed offset says, as every one of streamer's."""
    kafka, values = FakeKafka({"t": 1}), [b"%d" % number for number in range(8)]
    with pytest.MonkeyPatch.context() as patch:
        kafka.install(patch, repeating, transactions)
        producer = TransactionalProducer(_SETTINGS, "me", "me")
        for request, answer in answers:
            kafka.answer(request, answer)
        for _ in range(100):
            if producer.state not in (State.READY, State.OPEN):  # or its end is not known
                producer = TransactionalProducer(_SETTINGS, "me", "me")
            known = kafka.group("g").offsets.get(("t", 0))
            done = 0 if known is None else known.offset
            if done == len(values):
                break
            try:
                if producer.state is State.OPEN:
                    producer.abort()
                with producer.transaction(3.0):
                    for value in values[done : done + 3]:
                        producer.produce("t", value, None, 0)
                    offset = TopicPartition("t", 0, min(done + 3, len(values)))
                    producer.send_offsets([offset], _STRANGER)
            except KafkaException:
                continue
    assert kafka.values("t") == values
