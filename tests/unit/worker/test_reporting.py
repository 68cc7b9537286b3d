"""What a worker tells others while it works."""

import logging
from types import SimpleNamespace
from typing import cast

import pytest

from streamer import metrics
from streamer.ledger.heartbeats import Heartbeat, Heartbeats
from streamer.settings import AccountSettings, Settings, WorkerSettings
from streamer.worker.account_states import AccountStateCache
from streamer.worker.reporting import WorkerReporter
from streamer.worker.source import RecordSource


class _Desk:
    """A reporter of a worker whose other parts say what a test says."""

    def __init__(self) -> None:
        self.written: list[Heartbeat] = []
        self.removed: list[str] = []
        self.held: list[str] = []
        self.source = SimpleNamespace(held=0, lag=0, windows={("t", 0): None}, offsets={})
        self.source.committed_offsets = lambda: dict(self.source.offsets)
        states = SimpleNamespace(limit=lambda account: 8, held=lambda: self.held)
        store = SimpleNamespace(write=self._write, remove=self.removed.append)
        self.reporter = WorkerReporter(
            Settings(
                worker=WorkerSettings(id="w-0"),
                accounts={"a": AccountSettings(), "unused": AccountSettings()},
            ),
            cast(Heartbeats, store),
            cast(RecordSource, self.source),
            cast(AccountStateCache, states),
            0.0,
        )

    def at(self, now: float) -> bool:
        """Report, and write what is to be written; return whether there was something."""
        beat = self.reporter.report(now)
        if beat is not None:
            beat()
        return beat is not None

    def _write(self, heartbeat: Heartbeat) -> int:
        self.written.append(heartbeat)
        return 1_000 + len(self.written)


def _line(caplog: pytest.LogCaptureFixture) -> dict[str, object]:
    (record,) = caplog.records
    caplog.clear()
    names = ("sent", "per_second", "calls_per_second", "allowed_calls_per_second", "waiting")
    return {"message": record.message, **{name: vars(record)[name] for name in (*names, "held")}}


def test_a_heartbeat_is_written_every_two_seconds() -> None:
    desk = _Desk()
    assert [desk.at(second) for second in range(5)] == [True, False, True, False, True]
    assert [each.since for each in desk.written] == [None, 1_001, 1_001]
    assert desk.written[0].worker == "w-0"
    assert desk.written[0].partitions == 1
    assert desk.written[0].rss > 1_000_000
    desk.reporter.ended(fenced=False)()
    assert desk.removed == [desk.written[0].instance]


def test_a_worker_whose_id_was_taken_says_so_last() -> None:
    desk = _Desk()
    desk.reporter.ended(fenced=True)()
    assert [each.fenced for each in desk.written] == [True]
    assert not desk.removed


def test_a_worker_that_commits_nothing_is_stalled() -> None:
    desk = _Desk()
    for now, held, offset in ((0, 0, 1), (10, 5, 1), (70, 5, 1), (80, 5, 2), (90, 5, 2)):
        desk.source.held, desk.source.offsets = held, {0: offset}
        desk.at(now)
    assert [each.stalled_s for each in desk.written] == [0, 10, 70, 0, 10]


def test_a_worker_without_records_is_not_stalled() -> None:
    desk = _Desk()
    desk.source.offsets = {0: 1}
    for now in (0, 100, 200):
        desk.at(now)
    assert [each.stalled_s for each in desk.written] == [0, 0, 0]


def test_a_line_says_every_half_minute_what_was_sent(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    desk = _Desk()
    metrics.OUTCOMES.labels("sent", "").inc(600)
    metrics.OUTCOMES.labels("failed", "rejected").inc(50)
    metrics.API_REQUESTS.labels("a", "accepted").inc(60)
    desk.source.lag = 40
    desk.at(29.9)
    assert not caplog.records
    desk.at(30)
    assert _line(caplog) == {
        "message": "sending",
        "sent": 600,
        "per_second": 20.0,
        "calls_per_second": 2.0,
        "allowed_calls_per_second": 8.0,
        "waiting": 40,
        "held": "none",
    }
    desk.held = ["a: monthly_quota_exceeded"]
    desk.at(59)
    desk.at(60)
    line = _line(caplog)
    assert line["message"] == "nothing was sent, and records wait"
    assert line["held"] == "a: monthly_quota_exceeded"


def test_a_worker_with_nothing_to_do_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    desk = _Desk()
    for now in range(0, 120, 10):
        desk.at(now)
    assert not caplog.records
