"""The report of all runs, as tables or JSON."""

import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from rich.console import Group
from rich.table import Table

from bench.runs import Result
from bench.site import PARTITIONS

RATIO_BAR = 1.3
MEMORY_BAR_MB = 120.0
TWO_WORKERS_BAR = 20_000.0
_MB = 1_000_000


@dataclass(frozen=True, slots=True)
class BenchReport:
    """The results of all runs.

    Attributes:
        loop: the plain loop, the baseline; None for a memory run.
        sampled: a worker whose CPU time was sampled; None if that is not wanted.
    """

    workers: Sequence[Result]
    loop: Result | None = None
    sampled: Result | None = None

    @property
    def adds_up(self) -> bool:
        """Whether every recipient of every run has exactly one outcome."""
        return all(result.adds_up for result in self._all())

    def ratio(self, result: Result) -> float | None:
        """Emails per CPU second relative to the loop; None without one."""
        if self.loop is None:
            return None
        return result.emails_per_cpu_second / self.loop.emails_per_cpu_second

    def as_json(self) -> dict[str, object]:
        """The report for programs."""
        runs = [
            {
                **asdict(result),
                "emails_per_cpu_second": result.emails_per_cpu_second,
                "emails_per_second": result.emails_per_second,
                "ratio": self.ratio(result),
            }
            for result in self._all()
        ]
        return {
            "machine": {
                "cpus": os.cpu_count(),
                "python": platform.python_version(),
                "system": platform.platform(),
            },
            "bars": {
                "ratio": RATIO_BAR,
                "peak_rss_mb": MEMORY_BAR_MB,
                "two_workers_emails_per_second": TWO_WORKERS_BAR,
            },
            "runs": runs,
            "adds_up": self.adds_up,
        }

    def as_text(self) -> Group:
        """The report for people."""
        wrong = [
            f"[red]{result.name} does not add up:[/] {result.ending.missing} recipients "
            f"without an outcome, {result.ending.repeated} extra outcomes, "
            f"{result.ending.statuses}"
            for result in self._all()
            if not result.adds_up
        ]
        return Group(
            f"{self.workers[0].recipients:,} recipients, {PARTITIONS} partitions; "
            f"{os.cpu_count()} CPUs, Python {platform.python_version()}",
            self._costs(),
            *([] if self.sampled is None else [_steps(self.sampled)]),
            *wrong,
        )

    def _costs(self) -> Table:
        table = Table(title="Cost of emails", title_justify="left")
        table.add_column("run", no_wrap=True)
        for name in ("per CPU s", "x loop", "CPU µs each", "per s", "peak MB", "Redis B", "fill"):
            table.add_column(name, justify="right")
        bars = (f"≥ {RATIO_BAR}", "", f"≥ {TWO_WORKERS_BAR:,.0f} by two")
        table.add_row("bar", "", *bars, f"≤ {MEMORY_BAR_MB:.0f}", "", "")
        for result in self._all():
            ratio = self.ratio(result)
            table.add_row(
                result.name,
                f"{result.emails_per_cpu_second:,.0f}",
                "" if ratio is None else f"{ratio:.2f}",
                # None if all was done before the measurement began.
                f"{1e6 / result.emails_per_cpu_second:.1f}" if result.cpu_s else "",
                f"{result.emails_per_second:,.0f}",
                f"{result.peak_rss_bytes / _MB:.0f}",
                f"{result.redis_bytes:.0f}",
                f"{result.fill:.1f}",
            )
        return table

    def _all(self) -> list[Result]:
        found = [self.loop, *self.workers, self.sampled]
        return [result for result in found if result is not None]


def _steps(result: Result) -> Table:
    """Where the CPU time of a sampled run went."""
    table = Table(title="CPU µs each by step", title_justify="left")
    for step in result.sampled:
        table.add_column(step, justify="right")
    each = [f"{seconds / result.emails * 1e6:.1f}" for seconds in result.sampled.values()]
    table.add_row(*each)
    return table
