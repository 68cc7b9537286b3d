"""Records for the fold, without Kafka."""

from dataclasses import dataclass

import orjson

from streamer.model.record import Headers
from streamer.model.wire import REASON, SOURCE_OFFSET, SOURCE_PARTITION, SOURCE_TOPIC

RETURNED: Headers = [(SOURCE_TOPIC, b"t"), (SOURCE_PARTITION, b"0"), (SOURCE_OFFSET, b"7")]


@dataclass(frozen=True)
class FakeRecord:
    """A record as seen by the fold."""

    at: int
    body: bytes | None
    head: Headers | None = None

    def offset(self) -> int:
        return self.at

    def value(self) -> bytes | None:
        return self.body

    def headers(self) -> Headers | None:
        return self.head

    def set_headers(self, headers: Headers, /) -> None:
        raise AssertionError("only a client's message can have unreadable headers")


def named(at: int, campaign: str = "spring", organization: object = "acme") -> bytes:
    """A value naming a campaign."""
    return orjson.dumps({"organization_id": organization, "campaign_id": campaign, "n": at})


def event(at: int, campaign: str = "spring", head: Headers | None = None) -> FakeRecord:
    """A recipient event, or a parked record."""
    return FakeRecord(at, named(at, campaign), head)


def dead_letter(
    at: int, reason: str, campaign: str = "spring", head: Headers | None = None
) -> FakeRecord:
    """A dead letter that names a campaign."""
    return FakeRecord(
        at, named(at, campaign), [("x", b"y"), (REASON, reason.encode()), *(head or [])]
    )


def outcome(
    at: int,
    status: str = "sent",
    reason: str | None = None,
    campaign: str = "spring",
    second: int = 0,
    head: Headers | None = None,
) -> FakeRecord:
    """An outcome."""
    value = {
        "organization_id": "acme",
        "campaign_id": campaign,
        "status": status,
        "reason": reason,
        "occurred_at": f"2026-11-24T03:40:{second:02d}.123Z",
    }
    return FakeRecord(at, orjson.dumps(value), head)
