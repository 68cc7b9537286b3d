"""Parsing times given on the command line."""

from datetime import UTC, datetime, timedelta

import typer
from pydantic import TypeAdapter

from streamer.model.campaign import Timestamp

_INSTANT: TypeAdapter[datetime] = TypeAdapter(Timestamp)
_DURATION: TypeAdapter[timedelta] = TypeAdapter(timedelta)
_DAYS = ("D", "W")


def parse_time(text: str) -> datetime:
    """Parse a time: RFC 3339 with an offset, or an age such as `90s`, `2h` or `3d`."""
    try:
        return since(text, datetime.now(UTC))
    except (ValueError, OverflowError):
        raise typer.BadParameter(
            f"invalid time {text!r}: expected RFC 3339 with an offset, e.g. 2026-11-24T08:00:00Z, "
            f"or an age such as 90s, 30m, 2h, 3d or 1w"
        ) from None


def parse_duration(text: str) -> timedelta:
    """Parse a duration such as `90s`, `2h` or `3d`."""
    try:
        return _duration(text.strip().upper())
    except (ValueError, OverflowError):
        raise typer.BadParameter(
            f"invalid time {text!r}: expected a number and a unit, such as 90s, 30m, 2h or 3d"
        ) from None


def _duration(upper: str) -> timedelta:
    """Parse an ISO 8601 duration without its leading P or PT, which pydantic needs."""
    prefix = "P" if upper.endswith(_DAYS) else "PT"
    return _DURATION.validate_python(f"{prefix}{upper}")


def since(text: str, now: datetime) -> datetime:
    """Parse a time; ages are subtracted from `now`.

    Raises:
        ValueError: the text is not a time.
        OverflowError: the time is out of range.
    """
    upper = text.strip().upper()
    if upper[:1].isdigit() and upper[-1:] in (*_DAYS, "H", "M", "S"):
        return now - _duration(upper)
    return _INSTANT.validate_python(text.strip())
