"""Opening, reading, counting and checking a file of recipients."""

import stat
import sys
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from streamer.cli.common import fail, warn
from streamer.cli.interrupts import Interrupts
from streamer.cli.progress_bar import progress_bar
from streamer.cli.rows import (
    DEFAULT_OPTIONS,
    Format,
    InvalidRow,
    Lines,
    ParsedRow,
    RowOptions,
    Rows,
    read_rows,
)
from streamer.model.campaign import CampaignName
from streamer.model.plural import plural

SHOW_EVERY = 1000
"""Rows between two updates of the progress display."""

MAX_SHOWN = 20
"""Bad rows that are shown."""


@dataclass(slots=True)
class RowCounts:
    """Counts of the rows read, and the first bad rows."""

    good: int = 0
    invalid_addresses: int = 0
    bad: int = 0
    shown: list[InvalidRow] = field(default_factory=list)

    def add(self, row: ParsedRow | InvalidRow) -> None:
        """Count a row."""
        if isinstance(row, ParsedRow):
            self.good += 1
            self.invalid_addresses += not row.is_valid_address
            return
        self.bad += 1
        if len(self.shown) < MAX_SHOWN:
            self.shown.append(row)

    def warn_of_bad(self) -> None:
        """Print the first bad rows."""
        for row in self.shown:
            warn(f"line {row.line}: {row.reason}")
        if self.bad > len(self.shown):
            warn(f"and {self.bad - len(self.shown):,} more")


@dataclass(frozen=True, slots=True)
class RecipientFile:
    """A file of recipients and how to read it."""

    stream: BinaryIO
    form: Format
    size: int | None
    """None if the file can be read only once."""
    campaign: CampaignName
    is_defined: bool
    options: RowOptions = DEFAULT_OPTIONS

    def open(self) -> tuple[Lines, Rows]:
        """Start reading, from the beginning if the file is seekable.

        Raises:
            InvalidFileError: the CSV header is invalid.
        """
        if self.size is not None:
            self.stream.seek(0)
        lines = Lines(self.stream)
        rows = read_rows(
            lines, self.form, self.campaign, is_defined=self.is_defined, options=self.options
        )
        return lines, rows


def open_file(file: Path, stack: ExitStack) -> tuple[BinaryIO, int | None]:
    """Open a file; returns its size, too, if it can be read again."""
    if file == Path("-"):
        return sys.stdin.buffer, None
    try:
        stream = stack.enter_context(file.open("rb"))
        status = file.stat()
    except OSError as error:
        fail(f"{file}: {error.strerror}")
    return stream, status.st_size if stat.S_ISREG(status.st_mode) else None


def warn_of_unknown(fields: set[str]) -> None:
    """Name the unknown fields of rows, if there are any."""
    if fields:
        names = ", ".join(sorted(fields))
        warn(f"unknown fields (variables belong under `variables`): {names}")


def check(source: RecipientFile, interrupts: Interrupts) -> None:
    """Read the whole file; exits with 1 if any row is bad."""
    lines, rows = source.open()
    counts = RowCounts()
    try:
        with progress_bar("checking", source.size) as show:
            for count, row in enumerate(interrupts.reading(rows)):
                counts.add(row)
                if count % SHOW_EVERY == 0:
                    show(lines.bytes_read, count)
    except KeyboardInterrupt:
        fail("interrupted while checking: nothing was produced", interrupts.exit_code)
    if counts.bad:
        counts.warn_of_bad()
        fail(
            f"{plural(counts.bad, 'bad row')}, {plural(counts.good, 'good row')}: nothing was "
            f"produced. "
            f"Fix them, or skip them with --bad-rows FILE"
        )
