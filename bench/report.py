"""The report of all runs, as tables or JSON."""

import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from rich.console import Group
from rich.table import Table

from bench.runs import STEPS, Result
from bench.site import PARTITIONS

RATIO_BAR = 1.5
MEMORY_BAR_MB = 120.0
_MB = 1_000_000


@dataclass(frozen=True, slots=True)
class BenchReport:
    """The results of all runs.

    Attributes:
        loops: plain loops, the first being the baseline; empty for a memory run.
    """

    workers: Sequence[Result]
    loops: Sequence[Result] = ()

    @property
    def adds_up(self) -> bool:
        """Whether every recipient of every run has exactly one outcome."""
        return all(result.adds_up for result in self._all())

    def ratio(self, result: Result) -> float | None:
        """Emails per CPU second relative to the first loop; None without loops."""
        if not self.loops:
            return None
        return result.emails_per_cpu_second / self.loops[0].emails_per_cpu_second

    def as_json(self) -> dict[str, object]:
        """The report for programs."""
        runs = [
            {
                **asdict(result),
                "emails_per_cpu_second": result.emails_per_cpu_second,
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
            "bars": {"ratio": RATIO_BAR, "peak_rss_mb": MEMORY_BAR_MB},
            "runs": runs,
            "adds_up": self.adds_up,
        }

    def as_text(self) -> Group:
        """The report for people."""
        first = self.workers[0]
        wrong = [
            f"[red]{result.name} does not add up:[/] {result.ending.missing} recipients "
            f"without an outcome, {result.ending.repeated} extra outcomes, "
            f"{result.ending.statuses}"
            for result in self._all()
            if not result.adds_up
        ]
        return Group(
            f"{first.recipients:,} recipients, {PARTITIONS} partitions; "
            f"{os.cpu_count()} CPUs, Python {platform.python_version()}",
            self._costs(),
            self._bars(first),
            self._latencies(),
            *wrong,
        )

    def _bars(self, first: Result) -> str:
        ratio = self.ratio(first)
        if ratio is not None:
            verdict = "reached" if ratio >= RATIO_BAR else "[yellow]missed[/]"
            return f"{first.name}: {ratio:.2f} x the loop; {RATIO_BAR} is {verdict}"
        peak = first.peak_rss_bytes / _MB
        verdict = "kept" if peak <= MEMORY_BAR_MB else "[yellow]exceeded[/]"
        return f"{first.name}: {peak:.0f} MB at most; {MEMORY_BAR_MB:.0f} is {verdict}"

    def _costs(self) -> Table:
        table = Table(title="Cost of emails", title_justify="left")
        table.add_column("run", no_wrap=True)
        for name in ("per CPU s", "x loop", "CPU µs each", "wall s", "peak MB", "fill"):
            table.add_column(name, justify="right")
        for result in self._all():
            ratio = self.ratio(result)
            table.add_row(
                result.name,
                f"{result.emails_per_cpu_second:,.0f}",
                "" if ratio is None else f"{ratio:.2f}",
                f"{result.cpu_s / result.emails * 1e6:.1f}",
                f"{result.wall_s:.1f}",
                f"{result.peak_rss_bytes / _MB:.0f}",
                f"{result.fill:.1f}",
            )
        return table

    def _latencies(self) -> Table:
        table = Table(title="Milliseconds per batch, p50 / p99", title_justify="left")
        table.add_column("run", no_wrap=True)
        for step in STEPS:
            table.add_column(step, justify="right")
        for result in self.workers:
            found = [result.steps.get(step) for step in STEPS]
            table.add_row(
                result.name,
                *("" if q is None else f"{q.p50_ms:.1f} / {q.p99_ms:.1f}" for q in found),
            )
        return table

    def _all(self) -> list[Result]:
        return [*self.workers, *self.loops]
