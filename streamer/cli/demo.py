"""`streamer demo`: three campaigns, one worker killed, and the counts."""

import signal
import time
from collections.abc import Sequence
from types import FrameType, TracebackType
from typing import Annotated, Self

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.table import Table

from streamer.cli.common import fail, show_json
from streamer.demo import ACTS, Act, ActReport, DemoError, DemoInterruptedError, run_demo
from streamer.demo.acts import Endings
from streamer.stack import StackError

_P99_LIMIT_MS = 100.0


def demo(
    json: Annotated[bool, typer.Option("--json", help="Answer in JSON.")] = False,
) -> None:
    """Send three campaigns through a fresh Kafka and Redis to a stand-in for Resend.

    The seconds of an act run from its first record produced to its last outcome committed.
    Exit 1 if a count does not add up, or if anyone was mailed twice.
    """
    console = Console(stderr=json)
    screen = _Screen(console)
    signal.signal(signal.SIGTERM, screen.on_signal)
    signal.signal(signal.SIGINT, screen.on_signal)
    try:
        with screen:
            reports = run_demo(ACTS, screen)
    except (DemoError, StackError) as error:
        fail(str(error))
    except DemoInterruptedError:
        raise typer.Exit(128 + screen.signal_number) from None
    problems = [problem for report in reports for problem in report.problems]
    if json:
        show_json({"acts": [report.as_json() for report in reports], "ok": not problems})
    else:
        _show(console, reports)
        for report in reports:
            for problem in report.problems:
                console.print(f"[red]act {report.act.name}: {problem}[/red]")
    if problems:
        raise typer.Exit(1)


class _Screen:
    """Bars on a terminal, lines elsewhere."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            TextColumn("act {task.fields[act]}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[words]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task: TaskID | None = None
        self._killed = 0
        self._started = 0.0
        self.signal_number = 0

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        """The handler of the signals that end the demo."""
        del frame
        self.signal_number = number

    @property
    def leaves(self) -> bool:
        """Whether such a signal came."""
        return self.signal_number != 0

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def say(self, words: str) -> None:
        """Print a line above the bars."""
        self._progress.console.print(words)

    def begin(self, act: Act) -> None:
        """A new bar."""
        self._killed = 0
        self._started = time.monotonic()
        self._task = self._progress.add_task("", total=act.recipients, act=act.name, words="")
        self.say(f"act {act.name}: {act.recipients:,} recipients, {act.workers} worker(s)")

    def see(self, endings: Endings, killed: int) -> None:
        """Move the bar."""
        if killed and not self._killed:
            self._killed = killed
            self.say("kill -9 of a worker in mid-campaign; its supervisor starts another")
        rate = endings.total / max(time.monotonic() - self._started, 0.001)
        words = endings.words
        if self._task is not None:
            self._progress.update(
                self._task,
                completed=endings.total,
                words=f"sent {words.get('sent', 0):,} skipped {words.get('skipped', 0):,} "
                f"{rate:,.0f}/s",
            )


def _show(console: Console, reports: Sequence[ActReport]) -> None:
    table = Table(title="What came of it", show_lines=False)
    table.add_column("")
    for report in reports:
        table.add_column(f"act {report.act.name}", justify="right")
    for name, cells in _rows(reports):
        table.add_row(name, *cells)
    console.print(table)


def _rows(reports: Sequence[ActReport]) -> list[tuple[str, list[str]]]:
    return [
        ("recipients", [f"{r.act.recipients:,}" for r in reports]),
        ("sent", [f"{r.sent:,}" for r in reports]),
        ("skipped", [f"{r.skipped:,}" for r in reports]),
        ("failed", [f"{r.failed:,}" for r in reports]),
        ("indeterminate", [f"{r.indeterminate:,}" for r in reports]),
        ("dead letters", [f"{r.dead:,}" for r in reports]),
        ("seconds", [_against(r.seconds, r.act.limit_s, "s") for r in reports]),
        (
            "suppression check p99",
            [_against(r.suppression_p99_ms, _P99_LIMIT_MS, "ms") for r in reports],
        ),
        ("mails in a call", [f"{r.accepted / r.calls if r.calls else 0:.1f}" for r in reports]),
        ("workers killed", [f"{r.killed}" for r in reports]),
        ("mailed twice", [f"{r.accepted_twice}" for r in reports]),
    ]


def _against(value: float, limit: float | None, unit: str) -> str:
    if limit is None:
        return f"{value:.1f} {unit}"
    mark = "[green]✓[/green]" if value < limit else "[red]✗[/red]"
    return f"{value:.1f} {unit} (< {limit:.0f}) {mark}"
