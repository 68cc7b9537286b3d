"""All output of the commands. Text is escaped here, so that no data can control the terminal.

Only what is meant for programs is written raw, and only if standard output is not a terminal.
"""

import csv
import os
import shutil
import sys
from collections.abc import Iterable, Sequence
from itertools import chain, islice, zip_longest
from textwrap import indent, wrap
from typing import BinaryIO, NoReturn, TextIO

import orjson
import typer

from streamer.errors import FAILED, INTERRUPTED, WRONG_USE, StreamerError
from streamer.model.printable import printable, printable_json, printable_lines

Column = tuple[str, int]
"""A heading and the column's minimum width."""

Cell = str | int | None
"""A value in a row for programs."""

_GAP, _MIN_WIDTH, _LAST_WIDTH = 2, 8, 24
"""Of a table: the blanks between two columns, how narrow one may become, and what the last one is
to have where its texts are not known yet."""

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""Spreadsheets evaluate a cell that begins with one of these."""


def on_terminal() -> bool:
    """Whether standard output is a terminal."""
    return sys.stdout.isatty()


def say(text: str = "", *, mark: str = "", colour: str | None = None) -> None:
    """Print one line. Line breaks in the text are escaped.

    Args:
        mark: a word to print before the text.
        colour: the colour of the mark on a terminal, unless NO_COLOR is set.
    """
    shown = printable(mark)
    if colour is not None and not os.environ.get("NO_COLOR"):
        shown = typer.style(shown, fg=colour)
    typer.echo(f"{shown}{printable(text)}")


def say_block(text: str, prefix: str = "    ") -> None:
    """Print lines, each indented, so that none can pass for a line of the command's own."""
    typer.echo(indent(printable_lines(text.rstrip("\n")), prefix, lambda _: True))


def warn(message: str) -> None:
    """Print a message to standard error. Its second and further lines are indented."""
    first, *others = message.split("\n")
    typer.echo("\n  ".join(map(printable, (first, *others))), err=True)


def fail(cause: str | StreamerError, code: int | None = None) -> NoReturn:
    """Print the cause and exit with `code`, by default the error's own exit code or 1."""
    warn(str(cause))
    if code is None:
        code = FAILED if isinstance(cause, str) else cause.exit_code
    raise typer.Exit(code)


def require_terminal(refused: str, *, yes: bool) -> None:
    """Exit with 2 if `confirm` could not ask, before anything is read for its question."""
    if not (yes or sys.stdin.isatty()):
        fail(f"{refused}: without a terminal, --yes is required", WRONG_USE)


def confirm(plan: str, refused: str, *, yes: bool) -> None:
    """Say what will happen, and ask. Exits with 1 if the answer is no, with 2 without a terminal.

    Args:
        plan: what will happen, in numbers.
        refused: what did not happen, as "nothing was deleted".
        yes: do not ask.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        fail(f"{refused}: {plan}. Without a terminal, --yes is required", WRONG_USE)
    warn(f"{plan}.")
    try:
        is_wanted = typer.confirm("Go on?", err=True)
    except typer.Abort:  # Ctrl-C, or the end of the input
        fail(f"\n{refused}", INTERRUPTED)
    if not is_wanted:
        fail(refused)


def show_json(value: object) -> None:
    """Print a value as indented JSON."""
    typer.echo(printable_json(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()))


def show_json_line(value: object) -> None:
    """Print a value as one line of JSON."""
    typer.echo(printable_json(orjson.dumps(value).decode()))


def show_stored_json(value: bytes) -> None:
    """Print a record's value, JSON, on one line; raw unless it goes to a terminal."""
    # Raw line breaks in JSON are only whitespace between tokens, so a space will do.
    line = value.replace(b"\r", b" ").replace(b"\n", b" ")
    typer.echo(printable_json(line.decode(errors="backslashreplace")) if on_terminal() else line)


def show_csv(header: Sequence[str], rows: Iterable[Sequence[Cell]]) -> None:
    """Print rows as CSV. Cells that a spreadsheet would evaluate get a leading apostrophe."""
    stream = _Guarded(sys.stdout)
    plain = csv.writer(stream, lineterminator="\n")
    # The library would leave a carriage return unquoted, and readers take it for the row's end.
    quoted = csv.writer(stream, lineterminator="\n", quoting=csv.QUOTE_ALL)
    plain.writerow(header)
    for row in rows:
        cells = [_inert(cell) if isinstance(cell, str) else cell for cell in row]
        has_return = any("\r" in cell for cell in cells if isinstance(cell, str))
        (quoted if has_return else plain).writerow(cells)


def binary_output() -> BinaryIO:
    """Standard output for a program that reads bytes; a terminal must not be there."""
    return sys.stdout.buffer


def show_lines(lines: Iterable[str]) -> None:
    """Print lines for a program, such as addresses."""
    stream = _Guarded(sys.stdout)
    for line in lines:
        stream.write(f"{line}\n")


def show_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows in aligned columns, never truncated. Cells fold where a terminal is too narrow."""
    shown = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(header, *shown, strict=True)]
    _echo_rows((header, *shown), widths)


def stream_table(
    columns: Sequence[Column], rows: Iterable[Sequence[str]], *, may_wait: bool = False
) -> None:
    """Print rows as they arrive; cells wider than their column are not truncated, but fold where
    a terminal is too narrow. The first row widens the columns: others are likely to be alike.

    Args:
        may_wait: the first row may be long in coming: print the header before it.
    """
    header = [name for name, _ in columns]
    shown = ([printable(cell) for cell in row] for row in rows)
    first = [] if may_wait else [*islice(shown, 1)]
    widths = [
        max(width, *map(len, cells))
        for (_, width), *cells in zip(columns, header, *first, strict=True)
    ]
    widths[-1] = max(widths[-1], _LAST_WIDTH)
    _echo_rows(chain([header], first, shown), widths)


def label_if_apart(label: str) -> str | None:
    """The label of a progress bar; None if the bar would mix with output on the same terminal."""
    return None if on_terminal() else label


class _Guarded:
    """Standard output for programs: raw, but escaped on a terminal."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._is_raw = not stream.isatty()

    def write(self, text: str) -> int:
        return self._stream.write(text if self._is_raw else printable_lines(text))


def _inert(cell: str) -> str:
    return f"'{cell}" if cell.startswith(_FORMULA) else cell


def _echo_rows(rows: Iterable[Sequence[str]], wanted: Sequence[int]) -> None:
    room = shutil.get_terminal_size().columns if on_terminal() else None
    widths = fitted(wanted, room)
    for row in rows:
        lines = [row] if room is None else folded(row, widths)
        for line in lines:
            padded = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
            typer.echo("  ".join(padded).rstrip())


def fitted(wanted: Sequence[int], room: int | None) -> list[int]:
    """Narrow the widest columns until a table fits; its last column takes what is left.

    Args:
        wanted: the widths that the columns should have.
        room: the columns of the terminal; None if there is none.
    """
    widths = list(wanted)
    if room is None:
        return widths
    spare = room - _GAP * (len(widths) - 1)
    while sum(widths) > spare and max(widths) > _MIN_WIDTH:
        widths[widths.index(max(widths))] -= 1
    widths[-1] += max(0, spare - sum(widths))
    return widths


def folded(row: Sequence[str], widths: Sequence[int]) -> list[tuple[str, ...]]:
    """Fold the cells of a row to their columns; return the lines."""
    cells = [wrap(cell, width) for cell, width in zip(row, widths, strict=True)]
    return list(zip_longest(*cells, fillvalue=""))
