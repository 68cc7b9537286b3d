"""Showing the demo on a terminal, or as plain lines without one."""

import time
from typing import Self

import rich.progress
from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn

from streamer.demo.acts import Act
from streamer.demo.reports import Resolutions
from streamer.model.reasons import Status

_LINE_EVERY_S = 2.0


class Screen:
    """Shows a progress bar for each act, or periodic lines without a terminal.

    Attributes:
        signal: number of the signal that should end the demo; 0 if none was received.
    """

    def __init__(self, console: Console) -> None:
        self.signal = 0
        self._console = console
        self._bars = rich.progress.Progress(
            TextColumn("act {task.fields[name]}"),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[words]}", justify="right"),
            console=console,
            disable=not console.is_terminal,
        )
        self._bar: TaskID | None = None
        self._next_line = 0.0

    @property
    def leaves(self) -> bool:
        """Whether the demo should end.

        This is polled, since an exception from a signal handler cannot safely pass through the
        Kafka client.
        """
        return self.signal != 0

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def say(self, words: str) -> None:
        """Print a line, above the bars if there are any."""
        self._console.print(words, markup=False, highlight=False)

    def begin(self, act: Act) -> None:
        """Start a new bar."""
        killed = ", one of which will be killed" if act.kill else ""
        crew = "1 worker" if act.workers == 1 else f"{act.workers} workers"
        self.say(f"act {act.name}: {act.recipients:,} recipients, {crew}{killed}")
        self._bar = self._bars.add_task("", total=act.recipients, name=act.name, words="")
        self._next_line = time.monotonic() + _LINE_EVERY_S

    def see(self, act: Act, seconds: float, resolutions: Resolutions, calls: int) -> None:
        """Update the bar, or print a line if one is due."""
        count, ended = resolutions.words, resolutions.ended
        words = (
            f"{count[Status.SENT]:,} sent {count[Status.SKIPPED]:,} skipped "
            f"{count[Status.FAILED]:,} failed {calls:,} calls "
            f"{ended / seconds if seconds else 0:,.0f}/s"
        )
        if self._bar is not None:
            self._bars.update(self._bar, completed=ended, words=words)
        now = time.monotonic()
        is_due = ended >= act.recipients or now >= self._next_line
        if not self._console.is_terminal and is_due:
            self._next_line = now + _LINE_EVERY_S
            self.say(f"act {act.name}: {seconds:4.1f} s  {words}")
