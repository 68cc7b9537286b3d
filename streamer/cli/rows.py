"""Parsing a file of recipients: each row becomes an event or a reason why it cannot."""

import csv
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b
from typing import BinaryIO

import orjson

from streamer.errors import InvalidDataError
from streamer.model.address import InvalidAddressError, normalise
from streamer.model.campaign import CampaignName
from streamer.model.event import DeadEventError, EventSchema, RecipientEvent, parse
from streamer.model.nearest import did_you_mean

_BOM = b"\xef\xbb\xbf"
_MAX_LINE = 16 * 1024 * 1024
_MAX_NAMES = 20
_FIELDS = frozenset(EventSchema.model_fields)
_EMAIL_ALIKE = re.compile(r"mail|address", re.IGNORECASE)


class Format(StrEnum):
    """File formats."""

    CSV = "csv"
    JSONL = "jsonl"


FORMATS = {".csv": Format.CSV, ".jsonl": Format.JSONL, ".ndjson": Format.JSONL}
"""By a file's suffix."""


class InvalidFileError(InvalidDataError):
    """The file cannot be used; the message says why."""


@dataclass(frozen=True, slots=True)
class ParsedRow:
    """A recipient event's key and value, whether its address is valid, and its original bytes."""

    line: int
    key: str
    value: bytes
    is_valid_address: bool
    raw: bytes


@dataclass(frozen=True, slots=True)
class InvalidRow:
    """A row that is not a valid event, with its original bytes."""

    line: int
    reason: str
    raw: bytes


def csv_error(error: csv.Error) -> str:
    """Return what is wrong with malformed CSV."""
    text = str(error)
    if text.startswith("new-line character"):
        return "a carriage return without a line feed: convert the file's line ends to LF"
    return f"{text}; perhaps a stray or missing quote"


@dataclass(frozen=True, slots=True)
class RowOptions:
    """How to read rows.

    Attributes:
        email_column: the column of a CSV file with the addresses.
        id_column: the one with the recipients' ids.
        allow_multiline: accept a cell with a line that looks like a row of the file.
    """

    email_column: str = "email"
    id_column: str = "recipient_id"
    allow_multiline: bool = False


DEFAULT_OPTIONS = RowOptions()


class Lines:
    """Iterates over a file's lines in bounded memory, keeping the bytes of the current record."""

    def __init__(self, stream: BinaryIO) -> None:
        self.number = 0
        self.bytes_read = 0
        self._stream = stream
        self._record: list[bytes] = []

    def begin(self) -> None:
        """Start a new record with the next line."""
        self._record.clear()

    @property
    def record(self) -> bytes:
        """The bytes of the current record read so far."""
        return b"".join(self._record)

    def __iter__(self) -> "Lines":
        return self

    def __next__(self) -> str:
        # Invalid UTF-8 becomes surrogates, which an event cannot contain: only that row is bad.
        return self.next_raw().decode("utf-8", "surrogateescape")

    def next_raw(self) -> bytes:
        """Read the next line's bytes.

        Raises:
            StopIteration: at the end of the file.
            InvalidFileError: the line is too long.
        """
        raw = self._stream.readline(_MAX_LINE)
        if not raw:
            raise StopIteration
        self.number += 1
        self.bytes_read += len(raw)
        if len(raw) == _MAX_LINE:
            raise InvalidFileError(f"line {self.number} is longer than {_MAX_LINE} bytes")
        if self.number == 1:
            raw = raw.removeprefix(_BOM)
        self._record.append(raw)
        return raw


class Rows(ABC):
    """Iterates over the rows of a file.

    Attributes:
        head: the header that a file of copied rows must start with.
        variables: the columns that become variables; None for JSON lines, where rows may differ.
        unknown: names of unknown fields seen so far.
    """

    def __init__(self, lines: Lines, campaign: CampaignName) -> None:
        self.head = b""
        self.variables: list[str] | None = None
        self.unknown: set[str] = set()
        self._lines = lines
        self._campaign = campaign

    def __iter__(self) -> Iterator[ParsedRow | InvalidRow]:
        while True:
            self._lines.begin()
            line = self._lines.number + 1
            try:
                if row := self._read(line):
                    yield row
            except StopIteration:
                return
            except _InvalidRowError as error:
                yield InvalidRow(line, str(error), self._lines.record)

    @abstractmethod
    def _read(self, line: int) -> ParsedRow | None:
        """Read the next row; None if it is empty. Raises `StopIteration` and `_InvalidRowError`."""


def read_rows(
    lines: Lines,
    form: Format,
    campaign: CampaignName,
    *,
    is_defined: bool,
    options: RowOptions = DEFAULT_OPTIONS,
) -> Rows:
    """Iterate over the rows of a file.

    Args:
        is_defined: whether the campaign is defined; if not, each row must carry its message.
        options: how to read them.

    Raises:
        InvalidFileError: the CSV header is invalid.
    """
    if form is Format.CSV:
        return _CsvRows(lines, campaign, options)
    return _JsonRows(lines, campaign, is_defined=is_defined)


class _CsvRows(Rows):
    def __init__(self, lines: Lines, campaign: CampaignName, options: RowOptions) -> None:
        super().__init__(lines, campaign)
        self._options = options
        self._reader = csv.reader(lines, strict=True)
        try:
            header = next(self._reader, [])
        except csv.Error as error:
            raise InvalidFileError(f"line 1: {csv_error(error)}") from None
        self.head = lines.record
        self._columns = _check_header([name.strip() for name in header], options)
        self.variables = [name for name in self._columns if name not in _FIELDS]

    def _read(self, line: int) -> ParsedRow | None:
        try:
            cells = next(self._reader)
        except csv.Error as error:
            if self._lines.number > line or "field limit" in str(error):
                # The next line may be inside a quoted cell: it must not become a recipient.
                raise InvalidFileError(
                    f"lines {line} to {self._lines.number}: {csv_error(error)}; where the next "
                    f"row begins is unknown"
                ) from None
            raise _InvalidRowError(csv_error(error)) from None
        if not cells:
            return None
        if len(cells) != len(self._columns):
            raise _InvalidRowError(f"{len(cells)} cells, the header has {len(self._columns)}")
        if not self._options.allow_multiline:
            _check_multiline(cells)
        # An empty cell means an absent event field, but an empty string for a variable.
        variables = dict(zip(self._columns, cells, strict=True))
        own = {
            name: cell
            for name in _FIELDS & variables.keys()
            if (cell := variables.pop(name).strip())
        }
        email = _required_email(own.get("email"))
        _check_ids(own, self._campaign)
        address = _normalised(email)
        event: dict[str, object] = {
            "organization_id": self._campaign.organization,
            "campaign_id": self._campaign.campaign_id,
            "recipient_id": derived_id(email, address),
            **own,
            "variables": variables,
        }
        try:
            value = orjson.dumps(event)
        except orjson.JSONEncodeError:  # only surrogates can fail: everything is text
            raise _InvalidRowError("not UTF-8") from None
        key = _validated(value).recipient_id
        return ParsedRow(line, key, value, address is not None, self._lines.record)


class _JsonRows(Rows):
    def __init__(self, lines: Lines, campaign: CampaignName, *, is_defined: bool) -> None:
        super().__init__(lines, campaign)
        self._is_defined = is_defined

    def _read(self, line: int) -> ParsedRow | None:
        raw = self._lines.next_raw().strip()
        if not raw:
            return None
        try:
            event = orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            raise _InvalidRowError(f"not JSON: {error}") from None
        if not isinstance(event, dict):
            raise _InvalidRowError("not a JSON object")
        email = _required_email(event.get("email"))
        address = _normalised(email)
        _check_ids(event, self._campaign)
        absent = {
            "organization_id": self._campaign.organization,
            "campaign_id": self._campaign.campaign_id,
            "recipient_id": derived_id(email, address),
        }
        for name in absent.keys() & event.keys():
            del absent[name]
        # The given JSON is kept verbatim, since Python cannot represent every number in it.
        value = orjson.dumps(absent)[:-1] + b"," + raw[1:] if absent else raw
        parsed = _validated(value)
        if parsed.message is None and not self._is_defined:
            raise _InvalidRowError("the campaign is not defined and the row carries no message")
        if len(self.unknown) < _MAX_NAMES:
            self.unknown |= event.keys() - _FIELDS
        return ParsedRow(line, parsed.recipient_id, value, address is not None, self._lines.record)


class _InvalidRowError(ValueError):
    """The row is not a valid event."""


def derived_id(email: str, address: str | None) -> str:
    """Derive a recipient id from the address: the same address always gives the same id."""
    identity = (address or email.strip()).encode(errors="surrogateescape")
    return blake2b(identity, digest_size=16).hexdigest()


def _check_multiline(cells: list[str]) -> None:
    """Refuse a cell that contains what looks like other rows: a stray quote would lose them."""
    for cell in cells:
        for text in cell.splitlines() if "\n" in cell or "\r" in cell else ():
            parts = next(csv.reader([text]), [])
            is_row = len(parts) > 1 or len(cells) == 1
            if is_row and any(_normalised(part) for part in parts):
                raise _InvalidRowError(
                    "a cell contains a line that looks like another row: a stray quote? "
                    "--allow-multiline accepts it"
                )


def _check_header(given: list[str], options: RowOptions) -> list[str]:
    """Check a header and return its columns, those of the options under the event's own names."""
    renamed = {options.email_column: "email", options.id_column: "recipient_id"}
    for option, name in (("email", options.email_column), ("id", options.id_column)):
        if name not in given and name not in ("email", "recipient_id"):
            raise InvalidFileError(
                f"line 1: header without column {name!r} (--{option}-column)"
                f"{did_you_mean(name, given)}"
            )
    columns = [renamed.get(name, name) for name in given]
    if any("\udc80" <= character <= "\udcff" for name in columns for character in name):
        raise InvalidFileError("line 1 is not UTF-8")
    if "email" not in columns:
        names = ", ".join(map(repr, columns)) or "none"
        alike = next((name for name in columns if _EMAIL_ALIKE.search(name)), None)
        separator = next((s for s in (";", "\t") if s in "".join(columns)), None)
        hint = f"; cells must be separated by commas, not by {separator!r}" if separator else ""
        if alike is not None and not separator:
            hint = f"; if it is {alike!r}, give --email-column {alike!r}"
        raise InvalidFileError(f"line 1: header without column 'email'; its columns: {names}{hint}")
    if "" in columns:
        raise InvalidFileError(f"line 1: header column {columns.index('') + 1} has no name")
    if repeated := sorted({name for name in columns if columns.count(name) > 1}):
        raise InvalidFileError(f"line 1: duplicate header columns: {', '.join(repeated)}")
    if structured := [name for name in ("variables", "message") if name in columns]:
        raise InvalidFileError(
            f"line 1: header column not supported: {' and '.join(structured)}; "
            f"other columns are variables; use JSON lines for structured fields"
        )
    return columns


def _required_email(value: object) -> str:
    if value is None or value == "":
        raise _InvalidRowError("no email")
    if not isinstance(value, str):
        raise _InvalidRowError("email: not a string")
    if not value.strip():
        raise _InvalidRowError("no email")
    return value


def _normalised(email: str) -> str | None:
    try:
        return normalise(email)
    except InvalidAddressError:
        return None


def _check_ids(event: dict[str, str], campaign: CampaignName) -> None:
    wanted = {"organization_id": campaign.organization, "campaign_id": campaign.campaign_id}
    for name, value in wanted.items():
        if name in event and event[name] != value:
            raise _InvalidRowError(f"{name} is {event[name]!r}, expected {value!r}")


def _validated(value: bytes) -> RecipientEvent:
    """Parse the event as a worker will."""
    try:
        return parse(value)
    except DeadEventError as error:
        raise _InvalidRowError(str(error)) from None
