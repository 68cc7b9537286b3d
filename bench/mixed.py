"""How full calls are when many organizations send at once: `python -m bench mixed`.

The input holds the mails of many organizations in random order, and calls are rate limited. A
call carries mails of one organization: at most all it has, or a hundred. How many are found
depends on how far the worker reads ahead. The records held must not slow down the worker's loop.
"""

import random
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Annotated

import typer
from rich.console import Group
from rich.table import Table

from bench import content
from bench.site import BenchSite, read_metrics, show, totals_alone
from streamer.demo import histogram
from streamer.ledger import campaigns
from streamer.stack import Stack
from streamer.stack.ports import free_port

FILL_BAR = 0.8
"""As a share of the best possible fill."""
TICK_BAR_S = 0.01
_BATCH = 100
_CAMPAIGN = "mixed"
_TICK = "streamer_tick_seconds"
_LOOK_EVERY_S = 0.2
_START_S = 120.0
_MB = 1_000_000


@dataclass(frozen=True, slots=True)
class MixedFinding:
    """The measurements of one worker.

    Attributes:
        fill: mails per call, excluding the first calls, made before reading ahead has caught up.
        best_fill: the most mails a call can carry.
        ticks: iterations of the worker's loop.
        slow_ticks: iterations that used more CPU time than the bar.
        most_tick_s: upper bound of the longest iteration's CPU time.
    """

    organizations: int
    each: int
    calls: int
    fill: float
    best_fill: int
    ticks: int
    slow_ticks: int
    most_tick_s: float
    peak_rss_bytes: int

    @property
    def is_missed(self) -> bool:
        """Whether any bar was missed."""
        return self.fill < FILL_BAR * self.best_fill or self.slow_ticks > 0


def _events(organizations: int, each: int) -> Iterator[tuple[str, bytes]]:
    numbers = list(range(organizations * each))
    random.Random(20261125).shuffle(numbers)
    for number in numbers:
        name = _name(number % organizations)
        yield from content.events(_CAMPAIGN, [number], inline=False, organization=name)


def _name(number: int) -> str:
    return f"org-{number}"


def measure(stack: Stack, organizations: int, each: int, rate: int, seconds: int) -> MixedFinding:
    """Let one worker send for this many seconds after a warm-up."""
    port = free_port()
    with totals_alone(None) as sandbox, closing(BenchSite(stack, sandbox, "mixed")) as site:
        site.make_topics()
        definition = content.definition(_CAMPAIGN)
        with site.redis() as client:
            for number in range(organizations):
                its = {"organization_id": _name(number)}
                campaigns.create(client, definition.model_copy(update=its))
        site.write(_events(organizations, each))
        with site.worker(rate, port) as process:
            # Warm-up: calls made while the worker joins and starts reading ahead do not count.
            process.wait_until(lambda: sandbox.stats().calls >= 5 * rate, _LOOK_EVERY_S, _START_S)
            before, until = sandbox.stats(), time.monotonic() + seconds
            process.wait_until(
                lambda: (
                    time.monotonic() >= until or sandbox.stats().accepted >= organizations * each
                ),
                _LOOK_EVERY_S,
                seconds + _START_S,
            )
            stats = sandbox.stats()
            _, buckets = histogram.parse(read_metrics(port), _TICK)
            peak = process.peak_rss()
    ticks = sorted(buckets.items())
    calls = stats.calls - before.calls
    return MixedFinding(
        organizations=organizations,
        each=each,
        calls=calls,
        fill=(stats.accepted - before.accepted) / max(1, calls),
        best_fill=min(each, _BATCH),
        ticks=ticks[-1][1],
        slow_ticks=ticks[-1][1] - next(n for le, n in ticks if le >= TICK_BAR_S),
        most_tick_s=next(le for le, n in ticks if n == ticks[-1][1]),
        peak_rss_bytes=peak,
    )


def mixed(
    organizations: Annotated[int, typer.Option(min=1, help="Number of organizations.")] = 5_000,
    each: Annotated[int, typer.Option(min=1, help="Mails per organization.")] = 20,
    rate: Annotated[int, typer.Option(min=1, help="Calls per second.")] = 10,
    seconds: Annotated[int, typer.Option(min=1, help="Duration of the measurement.")] = 60,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Measure how full calls are when many organizations send at once."""
    with Stack.ephemeral() as stack:
        finding = measure(stack, organizations, each, rate, seconds)
    report = {
        **asdict(finding),
        "bars": {"fill": FILL_BAR * finding.best_fill, "tick_s": TICK_BAR_S},
        "missed": finding.is_missed,
    }
    show(report, _table(finding), json)
    raise typer.Exit(1 if finding.is_missed else 0)


def _table(finding: MixedFinding) -> Group:
    table = Table(
        title=f"{finding.organizations:,} organizations with {finding.each} mails each, mixed; "
        f"{finding.calls:,} calls",
        title_justify="left",
    )
    for name in ("", "found", "bar"):
        table.add_column(name, justify="right" if name else "left")
    table.add_row("mails per call", f"{finding.fill:.1f}", f"{FILL_BAR * finding.best_fill:.0f}")
    most = f"at most {finding.most_tick_s * 1000:g}"
    table.add_row("longest tick, ms of CPU", most, f"{TICK_BAR_S * 1000:g}")
    table.add_row("ticks longer than that", f"{finding.slow_ticks:,} of {finding.ticks:,}", "0")
    table.add_row("peak memory, MB", f"{finding.peak_rss_bytes / _MB:.0f}", "")
    return Group(table, *(["[yellow]missed[/]"] if finding.is_missed else []))
