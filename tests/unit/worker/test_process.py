"""What a worker that cannot go on says, and ends with."""

import logging
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from confluent_kafka import KafkaError

from streamer import logs
from streamer.errors import FAILED
from streamer.flow.breaker import DeadLetterBreaker
from streamer.flow.window import PartitionWindow
from streamer.kafka import transactions
from streamer.kafka.transactions import TransactionalProducer
from streamer.model.reasons import DeadReason
from streamer.model.record import DeadLetter, Record, RecordId
from streamer.settings import MetricsSettings, ProgressSettings, Settings, UnsubscribeSettings
from streamer.worker import process
from streamer.worker.committer import Committer
from streamer.worker.ticker import Ticker
from tests.kit.fakes.kafka import FakeKafka, KafkaApi
from tests.kit.fakes.kafka.consumer import FakeConsumer


class _NoLease:
    def release(self) -> None:
        pass

    def reports_to(self, on_lost: object) -> None:
        pass


class _Pipeline:
    """Commits one record, and meets what the test has Kafka answer."""

    def fence(self, why: str) -> None:
        raise AssertionError(why)

    def __init__(self, kafka: FakeKafka) -> None:
        self._kafka = kafka

    def join(self) -> None:
        pass

    def run(self) -> None:
        settings = Settings()
        member = FakeConsumer(self._kafka, {"group.id": settings.kafka.group_id})
        self._kafka.group(settings.kafka.group_id).join(member)
        committer = Committer(
            TransactionalProducer(settings, "me", "me"),
            settings.topics,
            member.consumer_group_metadata,
            "e",
            lambda: 0,
            4,
            DeadLetterBreaker(1_000, 1),
            lambda name: None,
        )
        window = PartitionWindow(0, is_marked=True)
        record = Record(RecordId("t", 0, 0), None, b"?", None, 0.0)
        window.admit(record)
        record.resolve(DeadLetter(DeadReason.UNDECODABLE, "not JSON"), 0.0)
        while not committer.commit({("t", 0): window}):
            pass


_SETTINGS = Settings(
    unsubscribe=UnsubscribeSettings(required=False),
    metrics=MetricsSettings(port=0),
    progress=ProgressSettings(embedded=False),
)


def _look() -> None:
    """What keeps a worker's threads on a CPU; those of the tests stay where they are."""


@pytest.fixture
def kafka(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeKafka]:
    """The Kafka of a worker of which all but the committer is left out."""
    made = FakeKafka({Settings().topics.dead_letters: 1})
    made.install(monkeypatch, transactions)
    monkeypatch.setattr(process, "_check_redis", lambda *_: None)
    monkeypatch.setattr(process, "IdLease", lambda *_: _NoLease())
    monkeypatch.setattr(process, "build_pipeline", lambda *_: _Pipeline(made))
    monkeypatch.setattr(process, "CpuAffinity", lambda: SimpleNamespace(look=_look))
    monkeypatch.setattr(process, "_StopRequest", lambda *_: SimpleNamespace(reaches=lambda _: None))
    for name in ("tune_garbage_collection", "_set_up_heaps", "_watch_ticks"):
        monkeypatch.setattr(process, name, lambda *_: None)
    monkeypatch.setattr(logs, "configure", lambda *_: None)
    before = threading.excepthook, signal.getsignal(signal.SIGTERM)
    yield made
    threading.excepthook = before[0]
    assert signal.getsignal(signal.SIGTERM) == before[1]


@pytest.mark.parametrize(
    ("request_", "code", "what"),
    [
        (KafkaApi.PRODUCE, KafkaError.INVALID_PRODUCER_EPOCH, "was fenced"),
        (KafkaApi.END_TRANSACTION, KafkaError.PRODUCER_FENCED, "was fenced"),
        (KafkaApi.END_TRANSACTION, KafkaError.INVALID_TXN_STATE, "a broker crash"),
        (KafkaApi.COMMIT_OFFSETS, KafkaError.INVALID_TXN_STATE, "a broker crash"),
    ],
)
def test_a_fatal_transaction_error_is_logged_once(
    kafka: FakeKafka, caplog: pytest.LogCaptureFixture, request_: KafkaApi, code: int, what: str
) -> None:
    kafka.answer(request_, code)
    with caplog.at_level(logging.WARNING, "streamer"):
        assert process.run_worker(_SETTINGS) == FAILED
    (line,) = caplog.records
    assert "the next owner adopts what is in flight" in line.getMessage()
    assert what in line.__dict__["cause"]
    name = "_FENCED" if what == "was fenced" else KafkaError(code).name()
    assert name in line.__dict__["cause"]


def test_a_worker_looks_after_its_cpu(kafka: FakeKafka, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[object] = []
    monkeypatch.setattr(Ticker, "add", lambda _, call: calls.append(call))
    kafka.answer(KafkaApi.PRODUCE, KafkaError.INVALID_PRODUCER_EPOCH)
    assert process.run_worker(_SETTINGS) == FAILED
    assert _look in calls


_HANGS_WITH_THE_GIL = """
import ctypes, os, signal
from streamer.worker import process
from streamer.worker.ticker import Ticker
from streamer.worker.waiter import Waiter
process._CLOSE_GRACE_S = 0.1
stop = process._StopRequest(0.1, Waiter(), Ticker())
os.kill(os.getpid(), signal.SIGTERM)
ctypes.PyDLL(None).sleep(60)
"""


def test_a_stop_ends_a_process_that_hangs_in_c_with_the_gil_held() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", _HANGS_WITH_THE_GIL], capture_output=True, text=True, timeout=30
    )
    assert ended.returncode == FAILED
    assert "most recent call first" in ended.stderr
