"""Parsing email addresses from arguments or a file, in normalised form."""

import csv
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from streamer.cli.common import warn
from streamer.cli.rows import InvalidFileError, Lines, csv_error
from streamer.model.address import InvalidAddressError, normalise

_MAX_KEPT = 1000
_COLUMN = "email"


@dataclass(frozen=True, slots=True)
class InvalidAddress:
    """An invalid address, where it was found, and what is wrong with it."""

    place: str
    text: str
    reason: str


@dataclass(slots=True)
class AddressParser:
    """Normalises addresses, skipping and reporting invalid ones as they are read.

    Attributes:
        good: number of valid addresses.
        bad: number of invalid addresses.
        kept: the first invalid addresses, up to a limit.
    """

    good: int = 0
    bad: int = 0
    kept: list[InvalidAddress] = field(default_factory=list)

    def normalised(self, texts: Iterable[tuple[str, str]]) -> Iterator[str]:
        """Yield the normalised form of each valid address in `texts`, pairs of place and text."""
        for place, text in texts:
            try:
                address = normalise(text)
            except InvalidAddressError as error:
                self._refuse(InvalidAddress(place, _printable(text), str(error)))
            else:
                self.good += 1
                yield address

    def _refuse(self, bad: InvalidAddress) -> None:
        self.bad += 1
        if len(self.kept) < _MAX_KEPT:
            self.kept.append(bad)
        warn(f"{bad.place}: invalid address {bad.text!r}: {bad.reason}")


def from_arguments(texts: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield command line arguments with their places."""
    for number, text in enumerate(texts, 1):
        yield f"argument {number}", text


def from_stdin(text: str) -> str:
    """Return the text, or for `-` the first line of standard input.

    An address given as an argument stays in the shell's history, and others see it among the
    processes.
    """
    return sys.stdin.readline().strip() if text == "-" else text


def from_file(stream: BinaryIO) -> Iterator[tuple[str, str]]:
    """Yield the addresses of a file with their places: one per line, or a CSV `email` column.

    Nothing is guessed: an address that is left out here would be mailed.

    Raises:
        InvalidFileError: a line is too long, or the CSV is malformed, has a cell with a line break
            or has no `email` column.
    """
    lines = Lines(stream)
    first = next(lines, None)
    if first is None:
        return
    header = [name.strip() for name in _cells(csv.reader([first], strict=True), "line 1") or []]
    if _COLUMN in header:
        yield from _from_csv(lines, header.index(_COLUMN))
        return
    if len(header) > 1:
        raise InvalidFileError(
            f"line 1 has {len(header)} cells but no {_COLUMN!r} column: "
            f"expected one address per line, or a CSV file with that column"
        )
    yield from _from_line(lines, first)
    for line in lines:
        yield from _from_line(lines, line)


def _from_line(lines: Lines, text: str) -> Iterator[tuple[str, str]]:
    lines.begin()  # the record is not used here; without this it would grow without bound
    if text.strip():
        yield f"line {lines.number}", text.strip()


def _from_csv(lines: Lines, column: int) -> Iterator[tuple[str, str]]:
    reader = csv.reader(lines, strict=True)
    while True:
        lines.begin()
        line = lines.number + 1
        cells = _cells(reader, f"line {line}")
        if cells is None:
            return
        if lines.number > line:
            # Usually a stray quote, which made one cell of the lines up to the next quote.
            raise InvalidFileError(
                f"lines {line} to {lines.number} are one row, with a line break in a cell: remove "
                f"the stray quote or the line break"
            )
        if cells:
            yield f"line {line}", cells[column].strip() if column < len(cells) else ""


def _cells(reader: Iterator[list[str]], place: str) -> list[str] | None:
    """Return the next row; None at the end of the file."""
    try:
        return next(reader, None)
    except csv.Error as error:
        raise InvalidFileError(f"{place}: {csv_error(error)}") from None


def _printable(text: str) -> str:
    return text.encode(errors="surrogateescape").decode(errors="replace")
