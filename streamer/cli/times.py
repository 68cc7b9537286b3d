"""Points in time on the command line."""

from datetime import UTC, datetime, timedelta

import typer
from pydantic import TypeAdapter

from streamer.model.campaign import Timestamp

_INSTANT: TypeAdapter[datetime] = TypeAdapter(Timestamp)
_DURATION: TypeAdapter[timedelta] = TypeAdapter(timedelta)
_DAYS = ("D", "W")


def parse_time(text: str) -> datetime:
    """Read an instant: RFC 3339 with an offset, or how long ago it was, as `90s`, `2h`, `3d`."""
    try:
        return since(text, datetime.now(UTC))
    except (ValueError, OverflowError):
        raise typer.BadParameter(
            f"{text!r} is no time: give RFC 3339 with an offset, as 2026-11-24T08:00:00Z, "
            f"or how long ago it was, as 90s, 30m, 2h, 3d, 1w"
        ) from None


def since(text: str, now: datetime) -> datetime:
    """The instant that `text` names; durations count back from `now`.

    Raises:
        ValueError: it names none.
        OverflowError: it is before all time.
    """
    upper = text.strip().upper()
    if upper[:1].isdigit() and upper[-1:] in (*_DAYS, "H", "M", "S"):
        # ISO 8601 as pydantic reads it, without its letters.
        return now - _DURATION.validate_python(
            f"P{upper}" if upper.endswith(_DAYS) else f"PT{upper}"
        )
    return _INSTANT.validate_python(text.strip())
