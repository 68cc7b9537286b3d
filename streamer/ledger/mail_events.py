"""What mail events have changed: counts of campaigns, and why addresses are suppressed.

What is written is confirmed when a method returns, and may be written again: it counts once.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from hashlib import blake2b
from typing import NamedTuple, cast

import orjson

from streamer.ledger import keys
from streamer.ledger.confirming import Argument, ConfirmedScript
from streamer.ledger.connection import Client
from streamer.ledger.scripts import read
from streamer.model.campaign import CampaignName
from streamer.model.feedback import Feedback, Flag, Why
from streamer.model.instants import as_text

BUCKETS = 4_096
"""With a million recipients each has about 250 fields, so that it stays a listpack."""

_AT_ONCE = 200
_FIELD_BYTES = 12
_FLAGS = [flag.word for flag in Flag]
_GUARDED = "guarded"


class SuppressingEvent(NamedTuple):
    """An event that suppresses an address, or undoes that."""

    address: str
    why: Why
    at: datetime
    campaign_id: str


class SuppressionReason(NamedTuple):
    """Why an address was suppressed, or no longer is.

    Attributes:
        at: when, as RFC 3339.
        campaign_id: by whose mail.
    """

    why: Why
    at: str
    campaign_id: str


class MailEvents:
    """The effects of mail events. Methods raise redis.exceptions.RedisError.

    Args:
        keep_s: how long counts, and what makes them exact, are kept after their last change.
    """

    def __init__(self, client: Client, keep_s: int) -> None:
        self._client = client
        self._keep_s = keep_s
        self._count = ConfirmedScript(client, read("count_events"))
        self._suppress = ConfirmedScript(client, read("suppress_events"))

    def suppress(self, organization: str, events: Sequence[SuppressingEvent]) -> int:
        """Suppress addresses, or undo it; return how many were not suppressed before."""
        added = 0
        for start in range(0, len(events), _AT_ONCE):
            arguments: list[Argument] = []
            for address, why, at, campaign_id in events[start : start + _AT_ONCE]:
                arguments += (address, why.value, as_text(at), campaign_id)
            names = [keys.suppressed(organization), keys.suppression_reasons(organization)]
            added += cast(int, self._suppress(keys=names, args=arguments))
        return added

    def count(self, name: CampaignName, found: Mapping[str, Feedback]) -> dict[str, int]:
        """Add feedback to a campaign's counts, by address; return its counts."""
        items = list(found.items())
        counts: dict[str, int] = {}
        for start in range(0, len(items), _AT_ONCE):
            names = [keys.event_counts(*name), keys.progress_due(name.organization)]
            arguments: list[Argument] = [name.campaign_id, self._keep_s, len(_FLAGS), *_FLAGS]
            places: dict[str, int] = {}
            for address, feedback in items[start : start + _AT_ONCE]:
                field, bucket = _place(name, address)
                if bucket not in places:
                    names.append(bucket)
                    places[bucket] = len(names)
                arguments += (
                    places[bucket],
                    field,
                    int(feedback.flags),
                    feedback.unsubscribed_ms,
                    feedback.resubscribed_ms,
                )
            counts = read_event_counts(cast(list[bytes], self._count(keys=names, args=arguments)))
        return counts

    def is_guarded(self, name: CampaignName) -> bool:
        """Whether the campaign was paused once for what became of its mails."""
        return bool(self._client.hexists(keys.event_counts(*name), _GUARDED))

    def set_guarded(self, name: CampaignName) -> None:
        """Note that the campaign was paused for what became of its mails."""
        self._client.hset(keys.event_counts(*name), _GUARDED, 1)

    def reasons(
        self, organizations: Iterable[str], address: str
    ) -> dict[str, list[SuppressionReason]]:
        """Return by organization why a normalised address was suppressed, the latest first."""
        found: dict[str, list[SuppressionReason]] = {}
        for organization in organizations:
            stored = self._client.hget(keys.suppression_reasons(organization), address)
            fields = orjson.loads(cast(bytes, stored)) if stored else {}
            reasons = [
                SuppressionReason(why, fields[why]["at"], fields[why]["campaign"])
                for why in Why
                if why in fields
            ]
            found[organization] = sorted(reasons, key=lambda reason: reason.at, reverse=True)
        return found


def read_feedback(client: Client, name: CampaignName, address: str) -> Feedback:
    """Return what the events that were applied say about a recipient, by normalised address."""
    field, bucket = _place(name, address)
    stored = cast(bytes | None, client.hget(bucket, cast(str, field)))  # redis-py takes bytes, too
    flags, unsubscribed_ms, resubscribed_ms, *_ = *(stored or b"0").split(b":"), b"0", b"0"
    return Feedback(Flag(int(flags)), int(unsubscribed_ms), int(resubscribed_ms))


def _place(name: CampaignName, address: str) -> tuple[bytes, str]:
    """Return the field of a recipient, and the key of the bucket that has it."""
    field = blake2b(address.encode(), digest_size=_FIELD_BYTES).digest()
    return field, keys.event_bucket(*name, int.from_bytes(field[:2], "big") % BUCKETS)


def forget_events(client: Client, name: CampaignName) -> None:
    """Delete a campaign's counts of events."""
    buckets = [keys.event_bucket(*name, number) for number in range(BUCKETS)]
    for start in range(0, BUCKETS, 512):
        client.unlink(*buckets[start : start + 512])
    client.unlink(keys.event_counts(*name))


def read_event_counts(flat: Sequence[bytes]) -> dict[str, int]:
    """Read the counts of a campaign's events, as HGETALL returns them; none is 0."""
    texts = [item.decode() for item in flat]
    return {
        word: number
        for word, text in zip(texts[::2], texts[1::2], strict=True)
        if word != _GUARDED and (number := int(text))
    }
