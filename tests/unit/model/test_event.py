"""Parsing events, and the reasons of dead letters."""

import tracemalloc

import orjson
import pytest

from streamer.model.event import DeadEventError, parse

_EVENT = {
    "organization_id": "acme",
    "campaign_id": "spring-26",
    "recipient_id": "r-1001",
    "email": "anything",
}
_MESSAGE = {"from": "a@b.test", "subject": "s", "text": "t"}


def _changed(**changes: object) -> bytes:
    return orjson.dumps(_EVENT | changes)


@pytest.mark.parametrize(
    "value",
    [
        _changed(),
        _changed(unknown={"deep": [1]}),
        _changed(email=""),
        _changed(recipient_id="A.z_0:@-"),
        _changed(recipient_id="x" * 128),
        _changed(expires_at="2026-12-01T00:00:00Z"),
        _changed(expires_at="2026-12-01t01:00:00.5+01:00"),
        _changed(expires_at=None, message=None, name=None),
        _changed(message=_MESSAGE),
        _changed(message={"from": "a@b.test", "template": {"id": "t"}}),
    ],
)
def test_valid_events_are_parsed(value: bytes) -> None:
    assert parse(value).organization_id == "acme"


@pytest.mark.parametrize(
    ("field", "faults"),
    [
        ("tags", [1] * 100_000),
        ("tags", [{}] * 100_000),
        ("reply_to", [1] * 100_000),
        ("headers", {str(number): number for number in range(100_000)}),
    ],
)
def test_many_errors_cost_no_extra_memory(field: str, faults: object) -> None:
    value = _changed(message=_MESSAGE | {field: faults})
    tracemalloc.start()
    try:
        with pytest.raises(DeadEventError, match=f"message.{field}"):
            parse(value)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 20 * len(value)


@pytest.mark.parametrize(
    "value", [None, b"", b"\xff", b"{", b"nothing", b"[" * 10_000, b"{}x", b'{"email":"\\ud800"}']
)
def test_undecodable_values_are_dead_letters(value: bytes | None) -> None:
    with pytest.raises(DeadEventError) as caught:
        parse(value)
    assert caught.value.reason == "undecodable"


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (b"[]", "object"),
        (b"null", "object"),
        (b"{}", "recipient_id"),
        (_changed(email=None), "email"),
        (_changed(organization_id=""), "organization_id"),
        (_changed(organization_id="a b"), "organization_id"),
        (_changed(campaign_id="a\n"), "campaign_id"),
        (_changed(recipient_id="x" * 129), "recipient_id"),
        (_changed(recipient_id=7), "recipient_id"),
        (_changed(variables=[]), "variables"),
        (_changed(expires_at="2026-12-01T00:00:00"), "expires_at"),
        (_changed(expires_at="2026-12-01"), "expires_at"),
        (_changed(expires_at="1795000000"), "expires_at"),
        (_changed(expires_at=1795000000), "expires_at"),
        (_changed(message={}), "message.from"),
        (_changed(message={"from": "a@b.test", "subject": "s"}), "message"),
        (_changed(message={"from": "a@b.test", "html": "h"}), "message"),
        (_changed(message=_MESSAGE | {"template": {"id": "t"}}), "message"),
    ],
)
def test_invalid_events_are_dead_letters(value: bytes, named: str) -> None:
    with pytest.raises(DeadEventError, match=named) as caught:
        parse(value)
    assert caught.value.reason == "invalid_event"


def test_the_detail_shows_no_personal_data() -> None:
    with pytest.raises(DeadEventError) as caught:
        parse(_changed(organization_id="secret person"))
    assert "secret" not in str(caught.value)


def test_only_the_first_problems_are_named() -> None:
    with pytest.raises(DeadEventError) as caught:
        parse(orjson.dumps(dict.fromkeys((*_EVENT, "name", "variables", "expires_at"), 7)))
    assert str(caught.value).endswith("; 2 more errors")
    assert len(str(caught.value)) < 500
