"""`streamer watch`: show the progress of campaigns live."""

import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from confluent_kafka.admin import AdminClient
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from streamer.cli.common import (
    ConfigOption,
    kafka_admin,
    parse_campaign,
    read_settings,
    redis_client,
    say,
)
from streamer.cli.names import require_campaign
from streamer.cli.output import on_terminal
from streamer.cli.progress import NOBODY_COUNTS
from streamer.kafka.offsets import GroupLag
from streamer.ledger import campaigns, keys, lease
from streamer.ledger.connection import Client
from streamer.ledger.holds import Holds
from streamer.model.campaign import CampaignName, CampaignState
from streamer.model.feedback import EVENT_WORDS
from streamer.model.printable import printable
from streamer.progress.counts import STATUSES
from streamer.progress.rates import Rates
from streamer.progress.report import Report, Reporter
from streamer.progress.store import Store
from streamer.settings import Settings

_EVERY_S = 1.0
_LINES_EVERY_S = 10.0
_BAR_WIDTH = 18
_COUNTS_WIDTH = len("1,000,000 of 1,000,000")
_LINES_OF_ONE = 2
_OTHER_LINES = 5
_MARKS = {
    CampaignState.ACTIVE: "",
    CampaignState.PAUSED: "paused",
    CampaignState.CANCELLED: "cancelled",
    CampaignState.COMPLETED: "complete",
}


@dataclass(slots=True)
class View:
    """What one refresh shows."""

    reports: list[Report]
    rates: dict[CampaignName, float]
    left_out: int
    lag: int | None
    is_counted: bool
    held: list[str]
    now: datetime


Show = Callable[[View], None]


def watch(
    campaign: Annotated[
        CampaignName | None,
        typer.Argument(metavar="[CAMPAIGN]", parser=parse_campaign, help="Only this campaign."),
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Show the progress of one or all campaigns until Ctrl-C, or until the one is complete.

    Without a terminal, prints a line per campaign from time to time.
    """
    settings = read_settings(config)
    with redis_client(settings) as client, kafka_admin(settings) as admin:
        store = Store(client, settings.kafka.group_id)
        reporter = Reporter(client, store)
        if campaign is not None:
            require_campaign(client, settings, campaign)
        eyes = _Eyes(settings, client, store, reporter, admin, campaign)
        try:
            _watch(eyes, campaign)
        except KeyboardInterrupt:
            return


def held_accounts(client: Client, accounts: Iterable[str]) -> list[str]:
    """Describe each current hold in a few words."""
    return [
        printable(f"{account}{f' ({domain})' if domain else ''}: {hold.reason}")
        for account, state in Holds(client).read(accounts).items()
        for domain, hold in state.holds.items()
    ]


def _watch(eyes: "_Eyes", campaign: CampaignName | None) -> None:
    with _screen() if on_terminal() else nullcontext(_Lines()) as show:
        while True:
            view = eyes.look()
            show(view)
            if campaign is not None and all(report.is_complete for report in view.reports):
                return
            time.sleep(_EVERY_S)


class _Eyes:
    """Reads the state of campaigns, accounts and the group's lag."""

    def __init__(
        self,
        settings: Settings,
        client: Client,
        store: Store,
        reporter: Reporter,
        admin: AdminClient,
        campaign: CampaignName | None,
    ) -> None:
        self._client = client
        self._store = store
        self._reporter = reporter
        self._campaign = campaign
        self._rates = Rates()
        self._group = settings.kafka.group_id
        self._accounts = list(settings.accounts)
        self._lag = GroupLag(settings, admin)

    def look(self) -> View:
        names = [self._campaign] if self._campaign else self._all()
        found = [report for report in self._reporter.reports(names) if report is not None]
        now = time.monotonic()
        rates = {report.name: self._rates.of(report, now) for report in found}
        # Running campaigns first, then complete ones, each by latest activity.
        found.sort(key=lambda report: report.counts.last or "", reverse=True)
        found.sort(key=lambda report: report.is_complete)
        most = max(1, (shutil.get_terminal_size().lines - _OTHER_LINES) // _LINES_OF_ONE)
        return View(
            reports=found[:most] if on_terminal() else found,
            rates=rates,
            left_out=max(0, len(found) - most),
            lag=self._lag.measure(),
            is_counted=lease.is_held(self._client, keys.progress_lease(self._group)),
            held=held_accounts(self._client, self._accounts),
            now=datetime.now(UTC),
        )

    def _all(self) -> list[CampaignName]:
        defined = {
            CampaignName(organization, campaign_id)
            for organization in campaigns.organizations(self._client)
            for campaign_id in campaigns.ids(self._client, organization)
        }
        return sorted(defined | set(self._store.campaigns()))


@contextmanager
def _screen() -> Iterator[Show]:
    with Live(console=Console(), auto_refresh=False) as live:
        yield lambda view: live.update(render(view), refresh=True)


class _Lines:
    """Prints campaigns that changed, at a limited rate."""

    def __init__(self) -> None:
        self._shown: dict[CampaignName, tuple[float, Report]] = {}

    def __call__(self, view: View) -> None:
        now = time.monotonic()
        for report in view.reports:
            at, before = self._shown.get(report.name, (float("-inf"), None))
            if report == before or (now - at < _LINES_EVERY_S and not report.is_complete):
                continue
            self._shown[report.name] = now, report
            say(line(report, view.rates[report.name], view.now))


def line(report: Report, rate: float, now: datetime) -> str:
    """Format a campaign as one line of plain text."""
    counts = report.counts
    parts = [
        _share(report),
        *(f"{status} {count:,}" for status, count in _statuses(report) if count),
        f"{rate:,.0f}/s",
    ]
    if counts.parked:
        parts.insert(-1, f"parked {counts.parked:,}")
    parts[-1:-1] = _events(report)
    if left := _time_left(report, rate, now):
        parts.append(f"{left} left")
    if mark := _MARKS[report.state]:
        parts.append(mark)
    return f"{report.name}: {', '.join(parts)}"


def render(view: View) -> RenderableType:
    """Render the view for a terminal of at least 80 columns."""
    blocks: list[RenderableType] = []
    for report in view.reports:
        blocks += _campaign(report, view.rates[report.name], view.now)
    if not view.reports:
        blocks.append(Text("no campaigns yet", style="dim"))
    if view.left_out:
        blocks.append(Text(f"and {view.left_out:,} more", style="dim"))
    lag = "unknown, Kafka is not responding" if view.lag is None else f"{view.lag:,} recipients"
    blocks.append(Text(f"lag: {lag}", style="dim"))
    if not view.is_counted:
        blocks.append(Text(NOBODY_COUNTS, style="bold red"))
    blocks += [Text(f"held: {words}", style="bold red") for words in view.held]
    return Group(*blocks)


def _campaign(report: Report, rate: float, now: datetime) -> list[RenderableType]:
    left = _time_left(report, rate, now)
    state = _MARKS[report.state] or (f"{left} left" if left else "")
    head = Table.grid(expand=True, padding=(0, 1))
    head.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    head.add_column(width=_BAR_WIDTH)
    head.add_column(justify="right", no_wrap=True, min_width=_COUNTS_WIDTH)
    head.add_row(
        Text(str(report.name), "bold"),
        _bar(report),
        Text(_share(report)),
    )
    counts = [f"{status} {count:,}" for status, count in _statuses(report) if count]
    if report.counts.parked:
        counts.append(f"parked {report.counts.parked:,}")
    tail = Table.grid(expand=True, padding=(0, 1))
    tail.add_column(ratio=1)
    tail.add_column(justify="right", no_wrap=True)
    tail.add_row(
        Text("  " + "  ".join(counts), "dim"),
        Text(f"{rate:,.0f}/s  {state}".rstrip(), "dim"),
    )
    if not report.events:
        return [head, tail]
    return [head, tail, Text("  " + "  ".join(_events(report)), "dim")]


def _bar(report: Report) -> RenderableType:
    if report.total is None:
        return ""
    return ProgressBar(max(1, report.total), report.ended, _BAR_WIDTH)


def _share(report: Report) -> str:
    ended = f"{report.ended:,}"
    return ended if report.total is None else f"{ended} of {report.total:,}"


def _events(report: Report) -> list[str]:
    return [
        f"{word.replace('_', ' ')} {number:,}"
        for word in EVENT_WORDS
        if (number := report.events.get(word))
    ]


def _statuses(report: Report) -> list[tuple[str, int]]:
    return [(status, report.counts.ended(status)) for status in STATUSES]


def _time_left(report: Report, rate: float, now: datetime) -> str:
    """The estimated remaining time, or an empty string if unknown."""
    eta = report.eta(now, rate)
    if eta is None:
        return ""
    left = timedelta(seconds=round((eta - now).total_seconds()))
    return str(left)
