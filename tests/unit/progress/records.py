"""Progress records for the fold, without Kafka."""

from dataclasses import dataclass

import orjson


@dataclass(frozen=True)
class FakeRecord:
    """A record as seen by the fold."""

    at: int
    body: bytes | None

    def offset(self) -> int:
        return self.at

    def value(self) -> bytes | None:
        return self.body


def progress(
    at: int,
    counts: dict[str, int] | None = None,
    campaign: str = "spring",
    second: int | None = None,
    **changes: object,
) -> FakeRecord:
    """A progress record, by default of one mail; `changes` replace fields."""
    time = None if second is None else f"2026-11-24T03:40:{second:02d}.123Z"
    value = {
        "organization_id": "acme",
        "campaign_id": campaign,
        "counts": {"sent": 1} if counts is None else counts,
        "first": time,
        "last": time,
        **changes,
    }
    return FakeRecord(at, orjson.dumps(value))
