"""How `streamer watch` looks: blocks for a terminal of 40 columns or more, or one line of text."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from streamer.cli.watching import Overview, WatchedCampaign
from streamer.model.feedback import EVENT_WORDS
from streamer.model.plural import plural
from streamer.model.printable import printable
from streamer.progress.counts import STATUSES
from streamer.progress.report import Report

LINES_OF_ONE = 2
"""How many lines a campaign takes."""
_BAR_WIDTH = 12
_MAX_WORDS = 40
_MAX_TROUBLES = 5
_MB = 1_000_000
_STYLES = {
    "sending": "green",
    "completed": "cyan",
    "cancelled": "dim",
    "paused": "yellow",
    "waiting": "yellow",
}


def line(campaign: WatchedCampaign, now: datetime) -> str:
    """Format a campaign as one line of plain text."""
    report = campaign.report
    parts = [
        _share(report),
        *_counts(report),
        f"{campaign.rate:,.0f}/s",
        *_left(campaign, now),
        campaign.words,
    ]
    return f"{report.name}: {', '.join(parts)}"


def head(view: Overview) -> RenderableType:
    """Render the first lines: the time in the reader's zone, and what cannot be reached."""
    local = view.now.astimezone()
    top = Table.grid(expand=True)
    top.add_column()
    top.add_column(justify="right")
    top.add_row(Text("streamer", "bold"), Text(f"{local:%H:%M:%S %Z}", "dim"))
    return Group(top, *(Text(printable(each), "bold white on red") for each in view.outages))


def campaigns(view: Overview, selected: int | None = None) -> RenderableType:
    """Render the campaigns.

    Args:
        selected: which of them to mark, if any.
    """
    if not view.campaigns:
        return Text("no campaigns yet", "dim")
    blocks: list[RenderableType] = []
    for number, each in enumerate(view.campaigns):
        blocks += _campaign(each, view.now, is_selected=number == selected)
    return Group(*blocks)


def foot(view: Overview) -> RenderableType:
    """Render what concerns all campaigns: backlog, rates, workers, holds and troubles."""
    lag = "unknown, Kafka does not answer" if view.lag is None else plural(view.lag, "record")
    rows: list[RenderableType] = [_fact("waiting", lag)]
    for each in view.allowances:
        rows.append(
            _fact(f"account {each.account}", f"{each.calls:.1f} of {each.allowed:g} calls/s")
        )
    for worker in view.workers:
        rows.append(
            _fact(
                f"worker {worker.worker}",
                f"{plural(worker.partitions, 'partition')}, {worker.per_second:,.0f}/s, "
                f"{worker.cpu:.0%} CPU, {worker.rss / _MB:.0f} MB",
            )
        )
    rows += [_warning(f"held: {words}") for words in view.held]
    rows += [_warning(words) for words in view.troubles[:_MAX_TROUBLES]]
    if len(view.troubles) > _MAX_TROUBLES:
        rows.append(_warning(f"and {len(view.troubles) - _MAX_TROUBLES} more: streamer doctor"))
    return Group(*rows)


def _fact(subject: str, text: str) -> Text:
    return Text.assemble((f"{printable(subject)}: ", "dim"), printable(text))


def _warning(text: str) -> Text:
    return Text(printable(text), "bold red")


def _campaign(
    campaign: WatchedCampaign, now: datetime, *, is_selected: bool
) -> Sequence[RenderableType]:
    report, words = campaign.report, printable(campaign.words)
    top = Table.grid(expand=True, padding=(0, 1))
    top.add_column(width=1)
    top.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    top.add_column(width=_BAR_WIDTH)
    top.add_column(justify="right", no_wrap=True, overflow="ellipsis")
    top.add_row(
        Text("▸" if is_selected else " ", "bold"),
        Text(str(report.name), "bold reverse" if is_selected else "bold"),
        _bar(report),
        Text(shorten(words, _MAX_WORDS), _style(words)),
    )
    below = Table.grid(expand=True, padding=(0, 1))
    below.add_column(width=1)
    below.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    below.add_column(justify="right", no_wrap=True)
    below.add_row(
        "",
        Text("  ".join([_share(report), *_counts(report)]), "dim"),
        Text("  ".join([f"{campaign.rate:,.0f}/s", *_left(campaign, now)]), "dim"),
    )
    return top, below


def shorten(words: str, most: int) -> str:
    """Shorten a text to so many characters."""
    return words if len(words) <= most else f"{words[: most - 1]}…"


def _style(words: str) -> str:
    return next((style for word, style in _STYLES.items() if words.startswith(word)), "")


def _bar(report: Report) -> RenderableType:
    if report.total is None:
        return ""
    return ProgressBar(max(1, report.total), report.ended, _BAR_WIDTH)


def _share(report: Report) -> str:
    ended = f"{report.ended:,}"
    return ended if report.total is None else f"{ended} of {report.total:,}"


def _counts(report: Report) -> list[str]:
    counts = {status: report.counts.ended(status) for status in STATUSES}
    counts["parked"] = report.counts.parked
    counts |= {word.replace("_", " "): report.events.get(word, 0) for word in EVENT_WORDS}
    return [f"{word} {count:,}" for word, count in counts.items() if count]


def _left(campaign: WatchedCampaign, now: datetime) -> list[str]:
    """The estimated remaining time, if it is known."""
    eta = campaign.report.eta(now, campaign.rate)
    if eta is None:
        return []
    return [f"{timedelta(seconds=round((eta - now).total_seconds()))} left"]
