"""How a transactional producer takes the answers of brokers: the one in memory, and librdkafka.

What the second is given comes from librdkafka's stand-in for brokers, as no real one gives such
answers when asked.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol, cast

import pytest
from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition

from streamer.kafka.properties import transactional_properties
from streamer.settings import KafkaSettings, Settings
from tests.kit import scripted_broker
from tests.kit.fakes.kafka import FakeKafka, KafkaApi, Silence
from tests.kit.scripted_broker import ScriptedBroker

_SHORT_S = 0.3
_LONG_S = 20.0
_LATE_MS = 1_000
_TOPIC = "t"
_STRANGER = b"CGMDv2:\xff\xff\xff\xffg\x00\x00\x01"
"""The metadata of a group of which the producer's consumer is no member."""

_NUMBERS = {
    KafkaApi.INIT_PRODUCER_ID: scripted_broker.INIT_PRODUCER_ID,
    KafkaApi.PRODUCE: scripted_broker.PRODUCE,
    KafkaApi.ADD_OFFSETS: scripted_broker.ADD_OFFSETS,
    KafkaApi.COMMIT_OFFSETS: scripted_broker.COMMIT_OFFSETS,
    KafkaApi.END_TRANSACTION: scripted_broker.END_TRANSACTION,
}


class Broker(Protocol):
    """A broker whose answers a test chooses."""

    def producer(self) -> Producer:
        """A transactional producer, not initialised."""

    def answer(self, request: KafkaApi, *codes: int) -> None:
        """Answer the next requests with these errors."""

    def answer_late(self, request: KafkaApi, code: int = 0) -> None:
        """Answer the next request after the time limit of a short call."""


class _FakeBroker:
    def __init__(self) -> None:
        self._kafka = FakeKafka({_TOPIC: 1})

    def producer(self) -> Producer:
        return cast(Producer, self._kafka.producer(_properties("nowhere")))

    def answer(self, request: KafkaApi, *codes: int) -> None:
        self._kafka.answer(request, *codes)

    def answer_late(self, request: KafkaApi, code: int = 0) -> None:
        self._kafka.answer(request, *(Silence.UNHEARD, code) if code else (Silence.UNANSWERED,))


class _ScriptedBroker:
    def __init__(self, broker: ScriptedBroker) -> None:
        self._broker = broker

    def producer(self) -> Producer:
        return Producer(_properties(self._broker.bootstrap_servers))

    def answer(self, request: KafkaApi, *codes: int) -> None:
        self._broker.answer(_NUMBERS[request], *codes)

    def answer_late(self, request: KafkaApi, code: int = 0) -> None:
        self._broker.answer(_NUMBERS[request], code, after_ms=_LATE_MS)


def _properties(servers: str) -> dict[str, str | int | float | bool]:
    settings = Settings(kafka=KafkaSettings(bootstrap_servers=servers, group_id="g"))
    return {**transactional_properties(settings, "contract", "p"), "log_level": 0}


@pytest.fixture(params=["fake", "real"])
def broker(request: pytest.FixtureRequest) -> Iterator[Broker]:
    if request.param == "fake":
        yield _FakeBroker()
    else:
        with ScriptedBroker() as scripted:
            yield _ScriptedBroker(scripted)


@pytest.fixture
def producer(broker: Broker) -> Producer:
    made = broker.producer()
    made.init_transactions(_LONG_S)
    return made


class Flags(NamedTuple):
    """What an error says of how to go on."""

    code: int
    fatal: bool = False
    retriable: bool = False
    abort: bool = False


def _fatal(code: int) -> Flags:
    return Flags(code, fatal=True)


def _retriable(code: int) -> Flags:
    return Flags(code, retriable=True)


def _abortable(code: int) -> Flags:
    return Flags(code, abort=True)


_TIMED_OUT = _retriable(KafkaError._TIMED_OUT)
_CONFLICT = _retriable(KafkaError._CONFLICT)
_FENCED = _fatal(KafkaError._FENCED)
_OK = None


def _call(producer: Producer, name: str, seconds: float = _LONG_S) -> Flags | None:
    """Call a method; returns what its error says, or None."""
    calls: dict[str, Callable[[], object]] = {
        "init": lambda: producer.init_transactions(seconds),
        "begin": producer.begin_transaction,
        "offsets": lambda: producer.send_offsets_to_transaction(
            [TopicPartition(_TOPIC, 0, 1)], _STRANGER, seconds
        ),
        "commit": lambda: producer.commit_transaction(seconds),
        "abort": lambda: producer.abort_transaction(seconds),
    }
    try:
        calls[name]()
    except KafkaException as exception:
        error = exception.args[0]
        return Flags(error.code(), error.fatal(), error.retriable(), error.txn_requires_abort())
    return None


def _open(producer: Producer) -> None:
    """Begin a transaction, with a record that is delivered."""
    producer.begin_transaction()
    producer.produce(_TOPIC, b"a", partition=0)
    producer.flush(_LONG_S)


def test_a_late_commit_must_be_repeated(broker: Broker, producer: Producer) -> None:
    _open(producer)
    broker.answer_late(KafkaApi.END_TRANSACTION)
    assert _call(producer, "commit", _SHORT_S) == _TIMED_OUT
    for other in ("abort", "begin", "offsets"):
        assert _call(producer, other) == _CONFLICT
    assert _call(producer, "commit") is _OK
    assert _call(producer, "begin") is _OK


def test_a_late_abort_must_be_repeated(broker: Broker, producer: Producer) -> None:
    _open(producer)
    broker.answer_late(KafkaApi.END_TRANSACTION)
    assert _call(producer, "abort", _SHORT_S) == _TIMED_OUT
    for other in ("commit", "begin", "offsets"):
        assert _call(producer, other) == _CONFLICT
    assert _call(producer, "abort") is _OK
    assert _call(producer, "begin") is _OK


@pytest.mark.parametrize("call", ["commit", "abort"])
@pytest.mark.parametrize(
    "code",
    [
        KafkaError.INVALID_PRODUCER_EPOCH,
        KafkaError.PRODUCER_FENCED,
        KafkaError.INVALID_TXN_STATE,
        KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    ],
)
def test_a_late_answer_can_be_fatal(
    broker: Broker, producer: Producer, call: str, code: int
) -> None:
    """A broker ends a transaction that is open for too long, and fences its producer."""
    is_fenced = code in (KafkaError.INVALID_PRODUCER_EPOCH, KafkaError.PRODUCER_FENCED)
    flags = _FENCED if is_fenced else _fatal(code)
    _open(producer)
    broker.answer_late(KafkaApi.END_TRANSACTION, code)
    assert _call(producer, call, _SHORT_S) == _TIMED_OUT
    assert _call(producer, call) == flags
    assert [_call(producer, again) for again in ("begin", "commit", "abort")] == [flags] * 3


@pytest.mark.parametrize("call", ["commit", "abort"])
@pytest.mark.parametrize(
    "code",
    [
        KafkaError.NOT_COORDINATOR,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.CONCURRENT_TRANSACTIONS,
    ],
)
def test_a_moving_coordinator_is_retried_within_the_call(
    broker: Broker, producer: Producer, call: str, code: int
) -> None:
    _open(producer)
    broker.answer(KafkaApi.END_TRANSACTION, code, code)
    assert _call(producer, call) is _OK
    assert _call(producer, "begin") is _OK


@pytest.mark.parametrize(
    ("code", "committed", "aborted"),
    [
        (KafkaError.INVALID_PRODUCER_EPOCH, _FENCED, _FENCED),
        (KafkaError.PRODUCER_FENCED, _FENCED, _FENCED),
        (KafkaError.INVALID_TXN_STATE, *[_fatal(KafkaError.INVALID_TXN_STATE)] * 2),
        (
            KafkaError.INVALID_PRODUCER_ID_MAPPING,
            _abortable(KafkaError.INVALID_PRODUCER_ID_MAPPING),
            _OK,
        ),
        (KafkaError.UNKNOWN_PRODUCER_ID, _abortable(KafkaError.UNKNOWN_PRODUCER_ID), _OK),
        (KafkaError.UNKNOWN, _abortable(KafkaError.UNKNOWN), _OK),
    ],
)
def test_failed_commits(
    broker: Broker, producer: Producer, code: int, committed: Flags, aborted: Flags | None
) -> None:
    _open(producer)
    broker.answer(KafkaApi.END_TRANSACTION, code)
    assert _call(producer, "commit") == committed
    assert _call(producer, "commit") == committed
    assert _call(producer, "abort") == aborted
    assert _call(producer, "begin") == aborted


@pytest.mark.parametrize(
    ("request_", "code", "flags"),
    [
        (KafkaApi.ADD_OFFSETS, KafkaError.INVALID_PRODUCER_EPOCH, _FENCED),
        # librdkafka overlooks it here, and finds it out with the abort.
        (KafkaApi.ADD_OFFSETS, KafkaError.PRODUCER_FENCED, _abortable(KafkaError._FENCED)),
        (
            KafkaApi.ADD_OFFSETS,
            KafkaError.INVALID_TXN_STATE,
            _fatal(KafkaError.INVALID_TXN_STATE),
        ),
        (KafkaApi.COMMIT_OFFSETS, KafkaError.INVALID_PRODUCER_EPOCH, _FENCED),
        (KafkaApi.COMMIT_OFFSETS, KafkaError.PRODUCER_FENCED, _abortable(KafkaError._FENCED)),
        (
            KafkaApi.COMMIT_OFFSETS,
            KafkaError.INVALID_PRODUCER_ID_MAPPING,
            _fatal(KafkaError.INVALID_PRODUCER_ID_MAPPING),
        ),
        *(
            (KafkaApi.COMMIT_OFFSETS, code, _abortable(code))
            for code in (
                KafkaError.ILLEGAL_GENERATION,
                KafkaError.STALE_MEMBER_EPOCH,
                KafkaError.UNKNOWN_MEMBER_ID,
                KafkaError.GROUP_AUTHORIZATION_FAILED,
                KafkaError.TOPIC_AUTHORIZATION_FAILED,
            )
        ),
    ],
)
def test_rejected_offsets(
    broker: Broker, producer: Producer, request_: KafkaApi, code: int, flags: Flags
) -> None:
    _open(producer)
    broker.answer(request_, code)
    assert _call(producer, "offsets") == flags
    assert _call(producer, "commit") == flags
    after = flags if flags.fatal else _OK
    assert [_call(producer, "abort"), _call(producer, "begin")] == [after, after]


@pytest.mark.parametrize("request_", [KafkaApi.ADD_OFFSETS, KafkaApi.COMMIT_OFFSETS])
@pytest.mark.parametrize(
    "code", [KafkaError.NOT_COORDINATOR, KafkaError.COORDINATOR_LOAD_IN_PROGRESS]
)
def test_offsets_without_a_coordinator(
    broker: Broker, producer: Producer, request_: KafkaApi, code: int
) -> None:
    """A transaction whose coordinator is away stays open; without the group's, it failed."""
    _open(producer)
    broker.answer(request_, *[code] * 60)
    is_open = request_ is KafkaApi.ADD_OFFSETS
    flags = _retriable(code) if is_open else _abortable(code)
    assert _call(producer, "offsets", _SHORT_S) == flags
    assert _call(producer, "abort") is _OK


@pytest.mark.parametrize(
    ("code", "flags"),
    [
        (KafkaError.INVALID_PRODUCER_EPOCH, _FENCED),
        *(
            (code, _abortable(code))
            for code in (
                KafkaError.MSG_SIZE_TOO_LARGE,
                KafkaError.INVALID_RECORD,
                KafkaError.POLICY_VIOLATION,
                KafkaError.TOPIC_AUTHORIZATION_FAILED,
            )
        ),
    ],
)
def test_rejected_records(broker: Broker, producer: Producer, code: int, flags: Flags) -> None:
    broker.answer(KafkaApi.PRODUCE, code)
    producer.begin_transaction()
    producer.produce(_TOPIC, b"a", partition=0)
    assert _call(producer, "commit") == flags
    after = flags if flags.fatal else _OK
    assert _call(producer, "commit") == flags
    assert [_call(producer, "abort"), _call(producer, "begin")] == [after, after]


@pytest.mark.parametrize(
    "code",
    [
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.CONCURRENT_TRANSACTIONS,
        KafkaError.NOT_COORDINATOR,
    ],
)
def test_initialisation_can_be_resumed(broker: Broker, code: int) -> None:
    producer = broker.producer()
    broker.answer(KafkaApi.INIT_PRODUCER_ID, *[code] * 4)
    assert _call(producer, "init", 1.2) == _retriable(code)
    assert _call(producer, "begin") == _CONFLICT
    assert _call(producer, "init") is _OK
    assert _call(producer, "begin") is _OK


def test_unauthorized_initialisation(broker: Broker) -> None:
    producer = broker.producer()
    broker.answer(KafkaApi.INIT_PRODUCER_ID, KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED)
    flags = _fatal(KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED)
    assert _call(producer, "init") == flags
    assert _call(producer, "begin") == flags
