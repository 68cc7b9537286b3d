"""The live view, its keys, and the plain lines."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

import pytest
from rich.console import Console

from streamer.cli import watch_app, watch_view
from streamer.cli.watch import end_of, question
from streamer.cli.watch_app import WatchApp
from streamer.cli.watch_view import line
from streamer.cli.watching import Allowance, Overview, WatchedCampaign
from streamer.errors import DONE, FAILED, INTERRUPTED
from streamer.ledger.heartbeats import Heartbeat
from streamer.model.campaign import CampaignName, CampaignState
from streamer.progress.counts import Counts
from streamer.progress.report import Report

NOW = datetime(2026, 11, 24, 4, 0, tzinfo=UTC)
WORKER = Heartbeat(
    worker="w-0",
    instance="i",
    host="h",
    pid=7,
    clock=0,
    partitions=4,
    per_second=612,
    cpu=0.31,
    rss=88_000_000,
)


def watched(
    campaign: str,
    sent: int,
    expected: int | None,
    words: str = "sending",
    state: str = "active",
    rate: float = 1234.5,
) -> WatchedCampaign:
    resolutions = {
        ("sent", ""): sent,
        ("skipped", "suppressed"): 50_000,
        ("dead", "undecodable"): 2,
    }
    name = CampaignName("acme", campaign)
    report = Report(name, CampaignState(state), expected, False, Counts(900, resolutions))
    return WatchedCampaign(report, words, rate)


def view(*campaigns: WatchedCampaign) -> Overview:
    return Overview(
        NOW, campaigns, [Allowance("default", 9.8, 10)], [WORKER], 5, [], ["a trouble"], []
    )


FULL = view(
    watched("spring-26", 9_000_000, 10_000_000),
    watched("x" * 128, 7, None, "paused by operator", "paused"),
    watched("done", 100, 50_102, "completed", "completed", 0),
)


def shown(what: Overview, width: int = 80) -> list[str]:
    console = Console(width=width)
    with console.capture() as capture:
        console.print(watch_view.head(what), watch_view.campaigns(what, 0), watch_view.foot(what))
    return capture.get().splitlines()


@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_view_fits_its_terminal(width: int) -> None:
    lines = shown(replace(FULL, held=["default: no answer"], outages=["Redis is away"]), width)
    assert max(map(len, lines)) <= width


def test_the_view_says_what_is_to_know() -> None:
    text = "\n".join(shown(replace(FULL, held=["default: no answer"], outages=["Redis is away"])))
    for words in (
        "Redis is away",
        "9,050,002 of 10,000,000  sent 9,000,000",
        "1,234/s  0:12:50 left",
        "paused by operator",
        "completed",
        "waiting: 5 records",
        "account default: 9.8 of 10 calls/s",
        "worker w-0: 4 partitions, 612/s, 31% CPU, 88 MB",
        "held: default: no answer",
        "a trouble",
        "…",  # a long name is shortened
    ):
        assert words in text, words
    assert "unknown, Kafka does not answer" in "\n".join(shown(replace(FULL, lag=None)))
    assert "no campaigns yet" in "\n".join(shown(view()))


def test_a_campaign_fits_on_one_line() -> None:
    assert line(watched("spring", 100, 60_000, rate=100.0), NOW) == (
        "acme/spring: 50,102 of 60,000, sent 100, skipped 50,000, dead 2, parked 900, 100/s, "
        "0:01:39 left, sending"
    )


class _Screen:
    """The app on a terminal of 80 by 24; notes what was changed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *campaigns: WatchedCampaign) -> None:
        monkeypatch.setattr(watch_app, "_EVERY_S", 0.05)
        self.view = view(*campaigns)
        self.done: list[tuple[str, str]] = []
        ended = partial(end_of, campaigns[0].report.name)
        self.app = WatchApp(lambda: self.view, ended, question, self._do)

    def _do(self, act: str, name: CampaignName) -> str:
        self.done.append((act, str(name)))
        return "changed"

    def press(self, *keys: str, until: Callable[[], bool] = lambda: True) -> int | None:
        """Press keys once the view is there; return the exit code, if the app has ended."""

        async def run() -> None:
            async with self.app.run_test(size=(80, 24)) as pilot:
                for _ in range(200):
                    await pilot.pause(0.02)
                    if self.app.view is not None or not self.app.is_running:
                        break
                for key in keys:
                    await pilot.press(key)
                for _ in range(200):
                    await pilot.pause(0.02)
                    if until():
                        return

        asyncio.run(run())
        return self.app.return_value


TWO = (watched("spring", 5, 100), watched("summer", 5, 100, "paused by operator", "paused"))


def test_a_campaign_is_paused_once_that_is_confirmed(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = _Screen(monkeypatch, *TWO)
    screen.press("p", "n", "down", "p", "n", "p", "y", until=lambda: bool(screen.done))
    assert screen.done == [("pause", "acme/spring")]


def test_the_campaign_below_is_resumed(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = _Screen(monkeypatch, *TWO)
    screen.press("down", "down", "down", "r", "y", until=lambda: bool(screen.done))
    assert screen.done == [("resume", "acme/summer")]


@pytest.mark.parametrize(("key", "code"), [("q", 0), ("ctrl+c", INTERRUPTED)])
def test_the_view_ends_by_a_key(monkeypatch: pytest.MonkeyPatch, key: str, code: int) -> None:
    assert _Screen(monkeypatch, *TWO).press(key) == code


def test_the_view_ends_with_its_campaign(monkeypatch: pytest.MonkeyPatch) -> None:
    done = replace(TWO[0].report, state=CampaignState.COMPLETED, counts=Counts())
    screen = _Screen(monkeypatch, WatchedCampaign(done, "completed", 0))
    assert screen.press(until=lambda: screen.app.return_value is not None) == 0


def test_the_view_ends_with_a_campaign_that_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    """It will never be complete."""
    cancelled = replace(TWO[0].report, state=CampaignState.CANCELLED)
    screen = _Screen(monkeypatch, WatchedCampaign(cancelled, "cancelled", 0))
    assert screen.press(until=lambda: screen.app.return_value is not None) == FAILED


def test_the_view_does_not_end_while_it_may_be_old() -> None:
    name = TWO[0].report.name
    done = replace(TWO[0].report, state=CampaignState.COMPLETED, counts=Counts())
    seen = view(WatchedCampaign(done, "completed", 0))
    assert end_of(name, seen) == DONE
    assert end_of(name, replace(seen, outages=["Redis is away"])) is None
    assert end_of(None, seen) is None


def test_the_question_has_the_numbers() -> None:
    assert question("pause", watched("spring", 1_000, 60_000)) == (
        "Pause acme/spring? It is sending: 1,000 recipients sent; the other 8,998 that are "
        "known, and all that may follow, are parked until it is resumed."
    )
