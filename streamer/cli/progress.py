"""`streamer progress`: show a campaign's progress."""

import time
from datetime import UTC, datetime
from typing import Annotated

import typer

from streamer.cli.common import (
    FAILED,
    WRONG_USE,
    CampaignArgument,
    ConfigOption,
    JsonOption,
    fail,
    read_settings,
    redis_client,
    say,
    show_json,
    show_table,
    warn,
)
from streamer.cli.names import require_campaign
from streamer.errors import INTERRUPTED
from streamer.ledger import keys, lease
from streamer.ledger.connection import Client
from streamer.model.campaign import CampaignName, CampaignState
from streamer.model.feedback import EVENT_WORDS
from streamer.model.instants import as_local_text
from streamer.progress.counts import STATUSES
from streamer.progress.report import Report, Reporter
from streamer.progress.standings import Standings
from streamer.progress.store import Store
from streamer.settings import Settings

NOBODY_COUNTS = "progress is not being counted: start a worker or streamer project"

_LOOK_EVERY_S = 0.5


def progress(
    campaign: CampaignArgument,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait until the campaign is complete.")
    ] = False,
    timeout: Annotated[
        float | None,
        typer.Option(min=0, metavar="S", help="With --wait: fail after this many seconds."),
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a campaign's progress.

    A campaign is complete once it is closed (by produce --done, by campaign close, or as many were
    received as are expected), the workers have passed all its recipients, and none is parked.
    """
    if timeout is not None and not wait:
        fail("--timeout requires --wait", WRONG_USE)
    settings = read_settings(config)
    with redis_client(settings) as client:
        reporter = Reporter(client, Store(client, settings.kafka.group_id))
        require_campaign(client, settings, campaign)
        report = find(reporter, campaign)
        _warn(settings, client, report, wait=wait)
        if wait:
            report = _wait(reporter, campaign, timeout)
        now = datetime.now(UTC)
        words = Standings(client, settings).of([campaign], {campaign: report}, now)[campaign]
    if as_json:
        show_json(report.as_json(now) | {"standing": words})
    else:
        _show(report, words, now)
    if wait and not report.is_complete:
        raise typer.Exit(FAILED)


def find(reporter: Reporter, name: CampaignName) -> Report:
    """The campaign's report; exits with 1 if the campaign is unknown."""
    report = reporter.report(name)
    if report is None:
        fail(f"campaign {name} is not defined, and none of its records has ended")
    return report


def _warn(settings: Settings, client: Client, report: Report, *, wait: bool) -> None:
    if not lease.is_held(client, keys.progress_lease(settings.kafka.group_id)):
        warn(NOBODY_COUNTS)
    if wait:
        warn_if_open(report)


def warn_if_open(report: Report) -> None:
    """Warn that to wait for the campaign's end would be in vain, unless it is closed."""
    if report.expected is None and not report.is_closed:
        warn(
            "the campaign is not closed, so it cannot complete; close it with: "
            "streamer produce --done, or streamer campaign close"
        )


def _wait(reporter: Reporter, campaign: CampaignName, timeout: float | None) -> Report:
    """Wait until the campaign is complete; returns an incomplete report after the timeout."""
    deadline = None if timeout is None else time.monotonic() + timeout
    try:
        while True:
            report = find(reporter, campaign)
            if report.is_complete:
                return report
            if report.state is CampaignState.CANCELLED:
                warn(f"campaign {campaign} is cancelled and will not complete")
                return report
            if deadline is not None and time.monotonic() >= deadline:
                warn(f"campaign {campaign} is not complete after {timeout:g} s")
                return report
            time.sleep(_LOOK_EVERY_S)
    except KeyboardInterrupt:
        fail("interrupted", INTERRUPTED)


def _show(report: Report, words: str, now: datetime) -> None:
    counts, eta = report.counts, report.eta(now)
    say(f"campaign: {report.name}")
    say(f"state: {words}")
    say(f"closed: {'yes' if report.is_closed else 'no'}")
    say(f"expected: {'not set' if report.expected is None else f'{report.expected:,}'}")
    rows = [("received", f"{counts.received:,}")]
    for status in STATUSES:
        rows.append((status, f"{counts.ended(status):,}"))
        rows += [
            (f"  {reason}", f"{count:,}")
            for (word, reason), count in sorted(counts.resolutions.items())
            if word == status and reason and count
        ]
    rows.append(("parked", f"{counts.parked:,}"))
    if report.events:
        rows += [
            (word.replace("_", " "), f"{report.events.get(word, 0):,}") for word in EVENT_WORDS
        ]
    width = max(len(count) for _, count in rows)
    show_table(("STATUS", "RECIPIENTS"), [(status, count.rjust(width)) for status, count in rows])
    if counts.first is not None:
        say(f"started: {as_local_text(datetime.fromisoformat(counts.first))}")
    if report.is_complete and counts.last is not None:
        say(f"finished: {as_local_text(datetime.fromisoformat(counts.last))}")
    if counts.per_second is not None:
        say(f"outcomes per second: {counts.per_second:,.1f}")
    if eta is not None:
        say(f"eta: {as_local_text(eta)}")
