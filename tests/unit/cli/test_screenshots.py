"""The README's screenshots are what the commands show; `UPDATE_SNAPSHOTS=1` makes them anew."""

import asyncio
import io
import time
from pathlib import Path

import pytest
from rich.console import Console
from rich.text import Text
from typer.testing import CliRunner

from streamer.cli import app
from streamer.cli import doctor as doctor_command
from streamer.cli.watch import question
from streamer.cli.watch_app import WatchApp
from streamer.cli.watching import Allowance, Overview, WatchedCampaign
from streamer.doctor.check_result import CheckResult, failed, ok, warning
from streamer.model.campaign import CampaignName, CampaignState
from streamer.progress.counts import Counts
from streamer.progress.report import Report
from tests.kit.snapshots import assert_snapshot
from tests.unit.cli.test_watch import NOW, WORKER

ROOT = Path(__file__).parents[3]
IMAGES = ROOT / "docs" / "images"


def _campaign(
    name: str, words: str, sent: int, expected: int | None, rate: float, *, parked: int = 0
) -> WatchedCampaign:
    state = "completed" if words == "completed" else "active"
    counts = Counts(parked, {("sent", ""): sent, ("skipped", "suppressed"): sent // 90})
    report = Report(CampaignName("acme", name), CampaignState(state), expected, True, counts)
    return WatchedCampaign(report, words, rate)


VIEW = Overview(
    NOW,
    (
        _campaign("spring-26", "sending", 48_211, 100_000, 961),
        _campaign("loyalty", "paused by operator", 1_204, 5_000, 0, parked=3_783),
        _campaign("welcome", "scheduled for 2026-11-24 09:00 UTC (in 5 h)", 0, 800, 0),
        _campaign("autumn-26", "completed", 81_904, 82_814, 0),
    ),
    [Allowance("default", 9.7, 10)],
    [WORKER, WORKER.model_copy(update={"worker": "w-1", "per_second": 349.0, "cpu": 0.22})],
    53_112,
    [],
    ["account default: rate_limit_exceeded 12 s ago (Too many requests.)"],
)


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    monkeypatch.delenv("NO_COLOR", raising=False)


def _svg(text: str, title: str) -> str:
    """Render output with escape codes as a terminal of 80 columns would show it."""
    console = Console(record=True, width=80, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi(text))
    return console.export_svg(title=title)


def test_watch() -> None:
    shown = WatchApp(lambda: VIEW, lambda view: None, question, lambda act, name: "")

    async def run() -> str:
        async with shown.run_test(size=(80, 20)) as pilot:
            while shown.view is None:
                await pilot.pause(0.05)
            await pilot.press("down")
            await pilot.pause(0.1)
            return shown.export_screenshot(title="streamer watch")

    assert_snapshot(IMAGES / "watch.svg", asyncio.run(run()))


def test_doctor(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[CheckResult] = [
        ok("kafka", "localhost:9092: brokers: 3"),
        ok("topic campaign.recipients", "configured as expected"),
        ok("redis", "localhost:6379"),
        ok("account default", "the key works"),
        warning(
            "account default hold of news.example.com",
            "domain_not_verified, since 2026-11-24T03:51:07+00:00",
            "verify the domain at Resend",
        ),
        failed("workers", "no worker is running, and 53,112 records wait", "streamer run"),
    ]
    monkeypatch.setattr(doctor_command, "examine", lambda settings: iter(found))
    result = CliRunner().invoke(app, ["doctor"], color=True)
    assert result.exit_code == 1
    assert_snapshot(IMAGES / "doctor.svg", _svg(result.stdout, "streamer doctor"))


def test_the_readme_shows_them() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for image in sorted(IMAGES.iterdir()):
        assert f"docs/images/{image.name}" in text
