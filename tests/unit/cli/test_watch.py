"""The live view at 80 columns, and the plain lines."""

from datetime import UTC, datetime

from rich.console import Console

from streamer.cli.watch import View, line, render
from streamer.model.campaign import CampaignName, CampaignState
from streamer.progress.counts import Counts
from streamer.progress.report import Report

NOW = datetime(2026, 11, 24, 4, 0, tzinfo=UTC)


def report(campaign: str, sent: int, expected: int | None, state: str = "active") -> Report:
    resolutions = {
        ("sent", ""): sent,
        ("skipped", "suppressed"): 50_000,
        ("dead", "undecodable"): 2,
    }
    counts = Counts(900, resolutions)
    name = CampaignName("acme", campaign)
    return Report(name, CampaignState(state), expected, False, counts)


def shown(*reports: Report, lag: int | None = 5, held: tuple[str, ...] = ()) -> list[str]:
    rates = dict.fromkeys((each.name for each in reports), 1234.5)
    console = Console(width=80, record=True, file=None, quiet=True)
    with console.capture() as capture:
        console.quiet = False
        console.print(render(View([*reports], rates, 3, lag, not held, [*held], NOW)))
    return capture.get().splitlines()


def test_the_view_fits_eighty_columns() -> None:
    lines = shown(
        report("spring-26", 9_000_000, 10_000_000),
        report("x" * 128, 7, None, "paused"),
        report("done", 100, 50_102, "completed"),
        held=("account default: no answer",),
    )
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    assert "9,050,002 of 10,000,000" in text
    assert "sent 9,000,000  skipped 50,000  dead 2  parked 900" in text
    assert "1,234/s" in text
    assert "left" in text
    assert "paused" in text
    assert "complete" in text
    assert "…" in text  # a long name is truncated
    assert "and 3 more" in text
    assert "lag: 5 recipients" in text
    assert "held: account default: no answer" in text
    assert "not being counted" in text


def test_lag_is_unknown_without_kafka() -> None:
    assert any("unknown" in each for each in shown(lag=None))
    assert any("no campaigns yet" in each for each in shown())


def test_a_campaign_fits_on_one_line() -> None:
    assert line(report("spring", 100, 60_000), 100.0, NOW) == (
        "acme/spring: 50,102 of 60,000, sent 100, skipped 50,000, dead 2, parked 900, 100/s, "
        "0:01:39 left"
    )
