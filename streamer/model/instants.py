"""Instants: as Kafka counts them, and as text."""

from datetime import UTC, datetime


def milliseconds(instant: datetime) -> int:
    """Since 1970, as Kafka counts."""
    return round(instant.timestamp() * 1000)


def from_milliseconds(timestamp_ms: int) -> datetime:
    """An instant of Kafka's."""
    return datetime.fromtimestamp(timestamp_ms / 1000, UTC)


def as_text(instant: datetime) -> str:
    """An instant in RFC 3339, as outcomes have it."""
    utc = instant.astimezone(UTC)
    return utc.isoformat(timespec="milliseconds").replace("+00:00", "Z")
