"""Showing what others wrote: nothing of it may steer the terminal, and much of it may come."""

import sys
from collections.abc import Iterable, Sequence

import typer

Column = tuple[str, int]
"""A heading, and how wide the column is at least."""


def printable(text: str) -> str:
    """The text with everything escaped that is not plainly visible, line breaks included."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def printable_lines(text: str) -> str:
    """The text with everything escaped that is not plainly visible, except its line breaks."""
    return "\n".join(map(printable, text.split("\n")))


def label_if_apart(label: str) -> str | None:
    """The label of a progress bar; None where the bar would be drawn among what is printed."""
    return None if sys.stdout.isatty() else label


def stream_table(columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> None:
    """Print rows as they come: what is wider than its column is not cut."""
    typer.echo(_line([name for name, _ in columns], columns))
    for row in rows:
        typer.echo(_line([printable(cell) for cell in row], columns))


def _line(cells: Sequence[str], columns: Sequence[Column]) -> str:
    padded = (cell.ljust(width) for cell, (_, width) in zip(cells, columns, strict=True))
    return "  ".join(padded).rstrip()
