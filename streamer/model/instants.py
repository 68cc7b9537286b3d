"""Conversions between datetimes, Kafka timestamps and RFC 3339 text."""

from datetime import UTC, datetime


def milliseconds(instant: datetime) -> int:
    """Convert to a Kafka timestamp: milliseconds since 1970."""
    return round(instant.timestamp() * 1000)


def from_milliseconds(timestamp_ms: int) -> datetime:
    """Convert a Kafka timestamp to a datetime in UTC."""
    return datetime.fromtimestamp(timestamp_ms / 1000, UTC)


def as_local_text(instant: datetime, *, with_milliseconds: bool = False) -> str:
    """Format for the reader of a terminal, in the zone of this machine, which is named."""
    local = instant.astimezone()
    fraction = f".{local.microsecond // 1000:03}" if with_milliseconds else ""
    return f"{local:%Y-%m-%d %H:%M:%S}{fraction} {local:%Z}"


def as_text(instant: datetime) -> str:
    """Format as RFC 3339 in UTC with milliseconds, as in outcomes."""
    utc = instant.astimezone(UTC)
    return utc.isoformat(timespec="milliseconds").replace("+00:00", "Z")
