"""Mail events: what became of a mail after it was sent, and who unsubscribed. Pure.

The gateway writes them to `topics.events`; repeats are allowed. Resend's `email.delivered` is
`delivered` here, and so on; a type that is unknown keeps Resend's name and its data.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from hashlib import blake2b
from typing import NamedTuple

import orjson
from pydantic import JsonValue, ValidationError

from streamer.errors import InvalidDataError
from streamer.model.address import sender_domain
from streamer.model.campaign import CampaignName
from streamer.model.encoding import to_json
from streamer.model.instants import as_text
from streamer.model.outcome import same_address
from streamer.model.published import PublishedMailEvent
from streamer.model.reference import TAG, Reference, campaign_check, read_reference

CAMPAIGN_TAG, ORGANIZATION_TAG = "campaign", "organization"
_LOSSY = "_"  # what the tags have in place of other characters
_MAX_TEXT = 1_000
_MAX_TAGS = 75


class EventType(StrEnum):
    """The types of mail events that are acted upon."""

    SENT = "sent"
    SCHEDULED = "scheduled"
    DELIVERED = "delivered"
    DELAYED = "delayed"
    BOUNCED = "bounced"
    COMPLAINED = "complained"
    SUPPRESSED = "suppressed"
    FAILED = "failed"
    OPENED = "opened"
    CLICKED = "clicked"
    UNSUBSCRIBED = "unsubscribed"
    RESUBSCRIBED = "resubscribed"


_TYPES = {f"email.{each}": each.value for each in EventType} | {
    "email.delivery_delayed": EventType.DELAYED.value
}
_DETAILS = {
    "bounce": {
        "type": "bounce_type",
        "subType": "bounce_subtype",
        "message": "message",
        "diagnosticCode": "diagnostic",
    },
    "click": {"link": "link"},
    "failed": {"reason": "reason"},
    "suppressed": {"type": "suppression_type", "message": "message"},
}
"""Fields of a webhook's data that are kept, and their names in an event's details."""


class UnreadableEventError(InvalidDataError):
    """The value is not a mail event."""


class Origin(NamedTuple):
    """Where an event came from.

    Attributes:
        kind: `webhook`, `page`, `one_click` or `backfill`.
        account: the account whose webhook it was.
        event_id: names the event, also when it is repeated: Resend's `svix-id`.
        received_at: when it came.
    """

    kind: str
    account: str | None
    event_id: str | None
    received_at: datetime


class KeyedEvent(NamedTuple):
    """An event as it is written.

    Attributes:
        type: its type.
        key: of the record; the same for all events of one address.
        value: JSON, see `PublishedMailEvent`.
    """

    type: str
    key: bytes
    value: bytes


def event_of_webhook(
    payload: Mapping[str, JsonValue], origin: Origin, recipients_topic: str
) -> KeyedEvent:
    """Return the event of a verified webhook.

    Args:
        payload: what Resend sent.
        origin: where it came from.
        recipients_topic: the topic to which the mails' references refer.

    Raises:
        UnreadableEventError: it has no type.
    """
    given = payload.get("type")
    if not isinstance(given, str) or not given:
        raise UnreadableEventError("the webhook has no type")
    data = payload.get("data")
    data = data if isinstance(data, dict) else {}
    kind = _TYPES.get(given, given[:_MAX_TEXT])
    tags = _tags(data.get("tags"))
    reference = read_reference(tags.get(TAG, ""))
    named = _named_campaign(tags, reference)
    source: JsonValue = None
    if reference is not None and reference.partition is not None:
        source = {
            "topic": recipients_topic,
            "partition": reference.partition,
            "offset": reference.offset,
        }
    address = _address(data)
    email_id = _text(data.get("email_id"))
    return _keyed(
        kind,
        address or email_id or origin.event_id or "",
        {
            "type": kind,
            "occurred_at": _time(payload.get("created_at"), origin.received_at),
            "organization_id": named.organization if named else None,
            "campaign_id": named.campaign_id if named else None,
            "source": source,
            "address": address,
            "email_id": email_id,
            "details": _details(data),
            "tags": tags,
            "origin": _origin(origin),
            "data": None if given in _TYPES else data,
        },
    )


def event_of_token(kind: EventType, name: CampaignName, address: str, origin: Origin) -> KeyedEvent:
    """Return the event of a use of an unsubscribe link."""
    return _keyed(
        kind.value,
        address,
        {
            "type": kind.value,
            "occurred_at": as_text(origin.received_at),
            "organization_id": name.organization,
            "campaign_id": name.campaign_id,
            "source": None,
            "address": address,
            "email_id": None,
            "details": {},
            "tags": {},
            "origin": _origin(origin),
            "data": None,
        },
    )


def read_event(value: bytes | None) -> PublishedMailEvent:
    """Parse the value of a mail event.

    Raises:
        UnreadableEventError: the value is not a mail event.
    """
    try:
        return PublishedMailEvent.model_validate_json(value or b"")
    except ValidationError as error:
        raise UnreadableEventError(str(error)) from None


def event_key(subject: str) -> bytes:
    """Return the key of the events of an address, or of what they have instead of one: a hash, as
    keys are shown where values are not."""
    return blake2b(subject.encode(errors="replace"), digest_size=8).hexdigest().encode()


def _keyed(kind: str, subject: str, value: Mapping[str, object]) -> KeyedEvent:
    try:
        return KeyedEvent(kind, event_key(subject), to_json(value))
    except orjson.JSONEncodeError as error:  # a lone surrogate, a number beyond 64 bits
        raise UnreadableEventError(f"the webhook cannot be written: {error}") from None


def _named_campaign(tags: Mapping[str, str], reference: Reference | None) -> CampaignName | None:
    """Return the campaign that the tags name; None unless it is certain."""
    organization, campaign = tags.get(ORGANIZATION_TAG), tags.get(CAMPAIGN_TAG)
    if not organization or not campaign:
        return None
    if reference is not None:
        is_exact = campaign_check(organization, campaign) == reference.check
    else:
        is_exact = _LOSSY not in organization + campaign
    return CampaignName(organization, campaign) if is_exact else None


def _tags(given: JsonValue) -> dict[str, str]:
    """Return the tags, given as an object or as a list of names and values."""
    if isinstance(given, list):
        pairs = [(tag.get("name"), tag.get("value")) for tag in given if isinstance(tag, dict)]
    elif isinstance(given, dict):
        pairs = list(given.items())
    else:
        pairs = []
    return {
        name[:_MAX_TEXT]: value[:_MAX_TEXT]
        for name, value in pairs[:_MAX_TAGS]
        if isinstance(name, str) and isinstance(value, str)
    }


def _address(data: Mapping[str, JsonValue]) -> str | None:
    found = data.get("to") or data.get("email")
    if isinstance(found, list):
        found = found[0] if found else None
    text = _text(found)
    return same_address(text) if text else None


def _details(data: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    found: dict[str, JsonValue] = {}
    for section, names in _DETAILS.items():
        given = data.get(section)
        if not isinstance(given, dict):
            continue
        for name, ours in names.items():
            text = given.get(name)
            if isinstance(text, list):
                text = " ".join(str(each) for each in text)
            if isinstance(text, str):
                found[ours] = text[:_MAX_TEXT]
    sender = data.get("from")
    if isinstance(data.get("failed"), dict) and isinstance(sender, str):
        found["sender_domain"] = sender_domain(sender[:_MAX_TEXT])
    return found


def _text(value: JsonValue) -> str | None:
    return value[:_MAX_TEXT] if isinstance(value, str) and value else None


def _time(given: JsonValue, otherwise: datetime) -> str:
    """Return an instant as text. Resend writes RFC 3339, and in places a blank for the `T`."""
    if isinstance(given, str):
        try:
            parsed = datetime.fromisoformat(given)
            if parsed.tzinfo is None:
                parsed = parsed.replace(tzinfo=UTC)
            return as_text(parsed)
        except (ValueError, OverflowError):
            pass
    return as_text(otherwise)


def _origin(origin: Origin) -> dict[str, JsonValue]:
    return {
        "kind": origin.kind,
        "account": origin.account,
        "event_id": origin.event_id,
        "received_at": as_text(origin.received_at),
    }
