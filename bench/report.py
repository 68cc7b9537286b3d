"""What the runs found, as a table or as JSON."""

import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import orjson
from rich.console import Console
from rich.table import Table

from bench.place import PARTITIONS
from bench.runs import STEPS, Result

RATIO_BAR = 1.5
MEMORY_BAR_MB = 120.0
_MB = 1_000_000


@dataclass(frozen=True, slots=True)
class Report:
    """All runs of one call.

    Attributes:
        baseline: the plain loop; None in a run for memory.
    """

    workers: Sequence[Result]
    baseline: Result | None

    @property
    def adds_up(self) -> bool:
        """Whether in every run every recipient has exactly one outcome."""
        return all(result.adds_up for result in self._all())

    def ratio(self, result: Result) -> float | None:
        """A run's emails per CPU second, as a multiple of the plain loop's."""
        if self.baseline is None:
            return None
        return result.emails_per_cpu_second / self.baseline.emails_per_cpu_second

    def to_json(self) -> bytes:
        """Everything, for programs."""
        runs = [
            {
                **asdict(result),
                "emails_per_cpu_second": result.emails_per_cpu_second,
                "ratio": self.ratio(result),
            }
            for result in self._all()
        ]
        content = {
            "machine": {
                "cpus": os.cpu_count(),
                "python": platform.python_version(),
                "system": platform.platform(),
            },
            "bars": {"ratio": RATIO_BAR, "peak_rss_mb": MEMORY_BAR_MB},
            "runs": runs,
            "adds_up": self.adds_up,
        }
        return orjson.dumps(content, option=orjson.OPT_INDENT_2)

    def print(self, console: Console) -> None:
        """Everything, for people."""
        first = self.workers[0]
        console.print(
            f"{first.recipients:,} recipients, {PARTITIONS} partitions; "
            f"{os.cpu_count()} CPUs, Python {platform.python_version()}"
        )
        console.print(self._costs())
        console.print(self._latencies())
        for result in self._all():
            if not result.adds_up:
                console.print(
                    f"[red]{result.name} does not add up:[/] {result.ending.missing} recipients "
                    f"without an outcome, {result.ending.repeated} outcomes too many, "
                    f"{result.ending.statuses}"
                )

    def _costs(self) -> Table:
        table = Table(title="What it took", title_justify="left")
        table.add_column("run")
        for name in ("emails / CPU s", "x loop", "CPU µs / email", "wall s", "peak MB", "fill"):
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
        table = Table(title="Milliseconds a batch, p50 / p99", title_justify="left")
        table.add_column("run")
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
        return [*self.workers, *(() if self.baseline is None else (self.baseline,))]
