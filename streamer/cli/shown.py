"""Printing untrusted text, without terminal control characters, and long tables."""

import sys
from collections.abc import Iterable, Sequence

import typer

Column = tuple[str, int]
"""A heading and the column's minimum width."""


def printable(text: str) -> str:
    """Escape all non-printable characters, including line breaks."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def printable_lines(text: str) -> str:
    """Escape all non-printable characters except line breaks."""
    return "\n".join(map(printable, text.split("\n")))


def label_if_apart(label: str) -> str | None:
    """The label of a progress bar; None if the bar would mix with output on the same terminal."""
    return None if sys.stdout.isatty() else label


def stream_table(columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> None:
    """Print rows as they arrive; cells wider than their column are not truncated."""
    typer.echo(_line([name for name, _ in columns], columns))
    for row in rows:
        typer.echo(_line([printable(cell) for cell in row], columns))


def _line(cells: Sequence[str], columns: Sequence[Column]) -> str:
    padded = (cell.ljust(width) for cell, (_, width) in zip(cells, columns, strict=True))
    return "  ".join(padded).rstrip()
