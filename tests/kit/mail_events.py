"""Mail events for tests."""

from datetime import UTC, datetime, timedelta

from hypothesis import strategies as st
from pydantic import JsonValue

from streamer.model.campaign import CampaignName
from streamer.model.mail_event import Origin, event_of_webhook, read_event
from streamer.model.published import PublishedMailEvent

CAMPAIGN = CampaignName("acme", "spring-26")
START = datetime(2026, 11, 24, tzinfo=UTC)


def event_value(
    kind: str,
    address: str = "ann@example.com",
    *,
    name: CampaignName = CAMPAIGN,
    at_s: float = 0,
    bounce: str = "Permanent",
    event_id: str = "msg_1",
    tags: dict[str, str] | None = None,
    topic: str = "campaign.recipients",
) -> bytes:
    """Return the value of an event, as the gateway writes it."""
    at = START + timedelta(seconds=at_s)
    given = {"delayed": "delivery_delayed"}.get(kind, kind)
    data: dict[str, JsonValue] = {
        "to": [address],
        "email_id": f"id-{address}",
        "tags": {**tags}
        if tags
        else {"organization": name.organization, "campaign": name.campaign_id},
    }
    if kind == "bounced":
        data["bounce"] = {"type": bounce}
    payload: dict[str, JsonValue] = {
        "type": f"email.{given}",
        "created_at": at.isoformat(),
        "data": data,
    }
    origin = Origin("webhook", "default", event_id, at)
    return event_of_webhook(payload, origin, topic).value


def event(kind: str, address: str = "ann@example.com", **changes: object) -> PublishedMailEvent:
    """Return an event."""
    return read_event(event_value(kind, address, **changes))  # type: ignore[arg-type]  # passed on


KINDS = [
    *("delivered", "delayed", "bounced", "complained", "opened", "clicked", "failed"),
    *("suppressed", "unsubscribed", "resubscribed", "sent", "scheduled"),
]

SUPPRESSING = st.builds(
    event,
    st.sampled_from(["unsubscribed", "resubscribed", "unsubscribed", "resubscribed", "bounced"]),
    at_s=st.integers(0, 5),
)
"""Events of one recipient, who cannot decide."""

EVENTS = st.builds(
    event,
    st.sampled_from(KINDS),
    st.sampled_from(["ann@example.com", "bob@example.com", "eve@example.com"]),
    at_s=st.integers(0, 5),
    bounce=st.sampled_from(["Permanent", "Transient", "Undetermined"]),
)
