"""Mail events: what webhooks become, and that nothing in one can be in the way."""

from datetime import UTC, datetime
from typing import cast

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from streamer.model.campaign import CampaignName
from streamer.model.mail_event import (
    EventType,
    KeyedEvent,
    Origin,
    UnreadableEventError,
    event_of_token,
    event_of_webhook,
    read_event,
)
from streamer.model.published import PublishedMailEvent
from streamer.model.record import RecordId
from streamer.model.reference import TAG, campaign_check, place
from tests.kit.gateway import webhook

_NOW = datetime(2026, 11, 25, tzinfo=UTC)
_ORIGIN = Origin("webhook", "default", "msg_1", _NOW)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def _event(kind: str = "email.delivered", **data: object) -> KeyedEvent:
    return event_of_webhook(orjson.loads(webhook(kind, **data)), _ORIGIN, "campaign.recipients")


def _read(kind: str = "email.delivered", **data: object) -> PublishedMailEvent:
    return read_event(_event(kind, **data).value)


def _tags(organization: str, campaign: str, record_id: RecordId) -> dict[str, str]:
    reference = campaign_check(organization, campaign) + place(record_id)
    return {
        "organization": organization.replace(":", "_"),
        "campaign": campaign.replace(":", "_"),
        TAG: reference,
    }


def test_a_webhook_becomes_an_event() -> None:
    record_id = RecordId("campaign.recipients", 3, 1042)
    read = _read(
        "email.bounced",
        to=["Ann@Example.com"],
        tags=_tags("acme", "spring_26", record_id),
        bounce={"type": "Permanent", "subType": "General", "message": "no such user"},
    )
    assert (read.organization_id, read.campaign_id) == ("acme", "spring_26")
    assert (read.type, read.address, read.record_id) == ("bounced", "ann@example.com", record_id)
    assert read.details == {
        "bounce_type": "Permanent",
        "bounce_subtype": "General",
        "message": "no such user",
    }
    assert (read.origin.event_id, read.origin.account) == ("msg_1", "default")
    assert read.occurred_at.isoformat() == "2026-11-24T03:40:00.123000+00:00"
    assert read.data is None


def test_a_campaign_is_named_only_if_it_is_certain() -> None:
    record_id = RecordId("campaign.recipients", 0, 7)
    read = _read(tags=_tags("acme", "spring:26", record_id))
    assert (read.organization_id, read.campaign_id) == (None, None)
    assert read.record_id == record_id
    # Mails of earlier versions have no reference.
    assert _read(tags={"organization": "acme", "campaign": "spring-26"}).campaign_id == "spring-26"
    assert _read(tags={"organization": "acme", "campaign": "spring_26"}).campaign_id is None
    assert _read(tags=None).campaign_id is None


def test_tags_may_come_as_a_list() -> None:
    tags = [{"name": "organization", "value": "acme"}, {"name": "campaign", "value": "c"}]
    assert _read(tags=tags).campaign_id == "c"


@pytest.mark.parametrize(
    ("given_type", "found"),
    [
        *((f"email.{each}", each) for each in ("sent", "opened", "complained", "failed")),
        ("email.delivery_delayed", "delayed"),
        ("email.new", "email.new"),
        ("suppression.added", "suppression.added"),
    ],
)
def test_types_are_named(given_type: str, found: str) -> None:
    read = _read(given_type)
    assert read.type == found
    assert (read.data is not None) == (given_type == found)


def test_the_events_of_an_address_have_one_key() -> None:
    events = [_event(), _event("email.opened", to="ANN@example.com", email_id="other")]
    name = CampaignName("acme", "spring-26")
    events.append(event_of_token(EventType.UNSUBSCRIBED, name, "ann@example.com", _ORIGIN))
    assert len({event.key for event in events}) == 1
    assert _event(to=["bob@example.com"]).key != events[0].key
    assert b"ann" not in events[0].key


def test_a_token_becomes_an_event() -> None:
    name = CampaignName("acme", "a:b")
    origin = Origin("one_click", None, None, _NOW)
    event = event_of_token(EventType.UNSUBSCRIBED, name, "ann@example.com", origin)
    read = read_event(event.value)
    assert (read.organization_id, read.campaign_id, read.address) == (*name, "ann@example.com")
    assert (read.type, read.occurred_at, read.origin.kind) == ("unsubscribed", _NOW, "one_click")


@pytest.mark.parametrize("given_time", ["2026-11-24 03:40:00.123+00", "2026-11-24T03:40:00.123"])
def test_times_are_read_as_resend_writes_them(given_time: str) -> None:
    payload = {**orjson.loads(webhook()), "created_at": given_time}
    read = read_event(event_of_webhook(payload, _ORIGIN, "t").value)
    assert read.occurred_at == datetime(2026, 11, 24, 3, 40, 0, 123000, UTC)


@given(_JSON, _JSON, _JSON, _JSON, _JSON)
def test_anything_signed_becomes_an_event_or_is_refused(
    kind: JsonValue, at: JsonValue, tags: JsonValue, to: JsonValue, bounce: JsonValue
) -> None:
    data = {"tags": tags, "to": to, "bounce": bounce, "email_id": to}
    payload = cast(dict[str, JsonValue], {"type": kind, "created_at": at, "data": data})
    for each in (payload, {**payload, "data": bounce}, {**payload, "type": "email.bounced"}):
        try:
            event = event_of_webhook(each, _ORIGIN, "t")
        except UnreadableEventError:
            continue
        assert read_event(event.value).type == event.type
