"""Progress of a long command: a bar on a terminal, periodic lines elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from streamer.cli.common import warn

Show = Callable[[int, int], None]
"""Called with the number of bytes read and of rows done so far."""

_LINE_EVERY_S = 10.0


@contextmanager
def progress_bar(label: str, total_bytes: int | None) -> Iterator[Show]:
    """Show progress on standard error.

    Args:
        total_bytes: what the remaining time is estimated from, since the number of rows is not
            known in advance. None if unknown.
    """
    started = time.monotonic()
    if not sys.stderr.isatty():
        yield _lines(label, total_bytes, started)
        return
    # Not above: where there is no terminal, a short command would take a tenth longer.
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[rows]:,} rows, {task.fields[rate]:,.0f}/s"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    with bar:
        task = bar.add_task(label, total=total_bytes, rows=0, rate=0.0)

        def show(bytes_read: int, rows: int) -> None:
            bar.update(task, completed=bytes_read, rows=rows, rate=_rate(rows, started))

        yield show


def _lines(label: str, total_bytes: int | None, started: float) -> Show:
    shown = started

    def show(bytes_read: int, rows: int) -> None:
        nonlocal shown
        now = time.monotonic()
        if now - shown < _LINE_EVERY_S:
            return
        shown = now
        text = f"{label}: {rows:,} rows, {_rate(rows, started):,.0f}/s"
        if total_bytes and bytes_read:
            left = (now - started) * (total_bytes - bytes_read) / bytes_read
            text += f", {bytes_read / total_bytes:.0%}, {left:,.0f} s left"
        warn(text)

    return show


def _rate(rows: int, started: float) -> float:
    return rows / max(time.monotonic() - started, 1e-3)
