"""What a worker does when partitions are revoked, and when its transactions fail for good."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import cast

import pytest
from confluent_kafka import KafkaError, KafkaException

from streamer.flow.batcher import Batcher
from streamer.flow.window import PartitionWindow
from streamer.model.reasons import DeadReason
from streamer.model.record import DeadLetter, Record, RecordId
from streamer.worker import pipeline as pipeline_module
from streamer.worker.admission import Admission
from streamer.worker.arrivals import Windows
from streamer.worker.committer import BreakerError, Committer
from streamer.worker.dispatch import Dispatcher
from streamer.worker.life import Life
from streamer.worker.measures import Measures
from streamer.worker.pipeline import Pipeline
from streamer.worker.probing import Prober
from streamer.worker.relay import Relay
from streamer.worker.reporting import WorkerReporter
from streamer.worker.source import FencedError, RecordSource
from streamer.worker.verifying import EpochVerifier
from streamer.worker.waiter import Waiter
from tests.kit.fakes.kafka import KafkaClock, errors

_DECIDED = DeadLetter(DeadReason.UNDECODABLE, "not JSON")


class _Source:
    """Gives its partition up when it is closed, as a consumer does."""

    is_ahead = False

    def __init__(self, windows: Windows) -> None:
        self.windows = windows

    def start(self, check: object, on_revoke: Callable[[Windows], None]) -> None:
        self._on_revoke = on_revoke

    def close(self) -> None:
        self._on_revoke(self.windows)


class PipelineBench:
    """A pipeline on one partition, whose other parts do what a test says.

    Attributes:
        closed: what was closed, in order.
        committed: how many records each successful commit took.
        queued: the records that no batch has yet.
    """

    def __init__(self, *resolutions: DeadLetter | None) -> None:
        self.window = PartitionWindow(0, is_marked=True)
        self.windows: Windows = {("t", 0): self.window}
        for offset, resolution in enumerate(resolutions):
            record = Record(RecordId("t", 0, offset), None, b"?", None, 0.0)
            self.window.admit(record)
            if resolution is not None:
                record.resolve(resolution, 0.0)
        self.closed: list[str] = []
        self.committed: list[int] = []
        self.queued: list[Record] = []
        self.on_commit: Callable[[], bool] = lambda: True
        self.source = _Source(self.windows)
        self.pipeline = Pipeline(
            cast(RecordSource, self.source),
            cast(Admission, self._part("admission", poll=lambda now: [], admit=lambda r: None)),
            cast(Batcher, self._part("batcher", discard=self._discard)),
            cast(Dispatcher, self._part("dispatcher", dispatch=lambda now: None)),
            cast(Committer, self._part("committer", commit=self._commit, in_haste=False)),
            cast(Measures, self._part("measures", is_much_done=lambda: True)),
            cast(
                EpochVerifier,
                self._part("verifier", check_arrived=None, say_last=lambda beat: None),
            ),
            cast(WorkerReporter, self._part("reporter", ended=self._ended)),
            cast(Prober, self._part("prober")),
            cast(Relay, self._part("relay")),
            Waiter(),
            cast(Life, self._part("life", enter=lambda state: None)),
            1.0,
        )

    def revoke(self) -> None:
        """Revoke the partition."""
        self.source.start(None, self.pipeline._finish_revoked)
        self.source.close()

    def _part(self, name: str, **calls: object) -> SimpleNamespace:
        return SimpleNamespace(close=lambda: self.closed.append(name), start=lambda: None, **calls)

    def _ended(self, *, fenced: bool) -> Callable[[], None]:
        self.fenced = fenced
        return lambda: None

    def _discard(self, records: list[Record]) -> set[int]:
        return {id(record) for record in self.queued}

    def _commit(self, windows: Windows) -> bool:
        if not self.on_commit():
            return False
        for window in windows.values():
            done = len(window.done_prefix(100))
            window.committed(done, window.position_after(done))
            self.committed.append(done)
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> KafkaClock:
    made = KafkaClock()
    monkeypatch.setattr(pipeline_module, "time", made)
    return made


def test_a_failed_last_commit_still_closes_everything() -> None:
    desk = PipelineBench(_DECIDED)

    def fail() -> bool:
        raise KafkaException(errors.fatal(KafkaError._FENCED, "fenced"))

    desk.on_commit = fail
    with pytest.raises(KafkaException, match="fenced"):
        desk.pipeline.run()
    assert desk.closed == ["dispatcher", "verifier", "committer"]
    assert desk.fenced


def test_a_worker_whose_id_another_has_ends_and_commits_what_it_may() -> None:
    """If the other has begun, Kafka refuses the commit."""
    desk = PipelineBench(_DECIDED)
    desk.pipeline.fence("two workers use one id")
    with pytest.raises(FencedError, match="two workers use one id"):
        desk.pipeline.run()
    assert desk.fenced
    assert desk.committed == [1]
    assert desk.closed == ["dispatcher", "verifier", "committer"]


def test_revoked_records_are_committed_at_once(clock: KafkaClock) -> None:
    desk = PipelineBench(_DECIDED, _DECIDED)
    started = clock.now
    desk.revoke()
    assert desk.committed == [2]
    assert clock.now == started


def test_a_revocation_waits_a_second_for_records_in_flight(clock: KafkaClock) -> None:
    desk = PipelineBench(_DECIDED, None, _DECIDED)
    started = clock.now
    desk.revoke()
    assert desk.committed == [1]
    assert clock.now - started == pytest.approx(1.0, abs=0.01)


def test_records_resolved_during_a_revocation_are_committed(
    clock: KafkaClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = PipelineBench(None, _DECIDED)
    (record,) = desk.window.unresolved()

    def sleep(seconds: float) -> None:
        clock.now += seconds
        if record.resolution is None:
            record.resolve(_DECIDED, 0.0)

    monkeypatch.setattr(clock, "sleep", sleep)
    started = clock.now
    desk.revoke()
    assert desk.committed == [2]
    assert clock.now - started < 0.1


def test_a_revocation_does_not_wait_for_queued_records(clock: KafkaClock) -> None:
    desk = PipelineBench(None, None)
    desk.queued = [*desk.window.unresolved()]
    started = clock.now
    desk.revoke()
    assert clock.now == started


def test_a_revocation_gives_up_commits_after_three_seconds(clock: KafkaClock) -> None:
    desk = PipelineBench(_DECIDED)
    desk.on_commit = lambda: False
    started = clock.now
    desk.revoke()
    assert len(desk.window) == 1
    assert clock.now - started == pytest.approx(3.0, abs=0.1)


@pytest.mark.parametrize(
    "error", [KafkaException(errors.fatal(KafkaError._FENCED)), BreakerError("broken")]
)
def test_a_failed_commit_does_not_disturb_a_revocation(clock: KafkaClock, error: Exception) -> None:
    """The next commit, or the next owner, meets it again."""
    desk = PipelineBench(_DECIDED)

    def fail() -> bool:
        raise error

    desk.on_commit = fail
    desk.revoke()
    assert len(desk.window) == 1
