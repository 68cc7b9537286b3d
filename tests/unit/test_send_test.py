"""Test mails: how they differ from the campaign's, and what an answer says of each address."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.provider.client import ApiResponse
from streamer.send_test import SendTestStatus, as_test, read_response

_ADDRESSES = ["a@example.com", "b@example.com"]


def _tag(name: str, value: str) -> dict[str, str]:
    return {"name": name, "value": value}


def _answer(status: int | None, name: str = "", **data: object) -> ApiResponse:
    return ApiResponse(status, name, "its words" if name else "", data, {})


def test_a_test_mail_is_immediate_and_not_tagged_as_campaign() -> None:
    mail = {
        "to": ["a@example.com"],
        "scheduled_at": "in 3 days",
        "tags": [_tag("season", "x"), _tag("test", "y"), _tag("campaign", "c"), _tag("z", "z")],
    }
    assert orjson.loads(as_test(orjson.dumps(mail))) == {
        "to": ["a@example.com"],
        "tags": [_tag("season", "x"), _tag("test", "c"), _tag("z", "z")],
    }


@given(st.dictionaries(st.sampled_from(["from", "to", "html", "text", "headers"]), st.text()))
def test_other_fields_are_unchanged(mail: dict[str, str]) -> None:
    body = orjson.dumps(mail)
    assert as_test(body) == body


def test_each_address_gets_its_id_or_message() -> None:
    errors = [{"index": 0, "message": "no"}]
    first, second = read_response(_answer(200, data=[{"id": "1"}], errors=errors), _ADDRESSES)
    assert (first.address, first.status, first.email_id, first.detail) == (
        "a@example.com",
        SendTestStatus.REFUSED,
        None,
        "no",
    )
    assert (second.status, second.email_id, second.detail) == (SendTestStatus.SENT, "1", None)


@pytest.mark.parametrize(
    ("response", "fate"),
    [
        (_answer(422, "validation_error"), SendTestStatus.REFUSED),
        (_answer(401, "invalid_api_key"), SendTestStatus.REFUSED),
        (_answer(403, "validation_error"), SendTestStatus.REFUSED),
        (_answer(429, "rate_limit_exceeded"), SendTestStatus.REFUSED),
        (_answer(429, "daily_quota_exceeded"), SendTestStatus.REFUSED),
        (_answer(500, "application_error"), SendTestStatus.UNKNOWN),
        (_answer(503, "service_unavailable"), SendTestStatus.UNKNOWN),
        (_answer(200), SendTestStatus.UNKNOWN),
        (_answer(200, data=[{"id": "1"}]), SendTestStatus.UNKNOWN),
        (_answer(None, "HttpClientError"), SendTestStatus.UNKNOWN),
    ],
)
def test_a_rejected_call_is_reported(response: ApiResponse, fate: SendTestStatus) -> None:
    tried = read_response(response, _ADDRESSES)
    assert [each.address for each in tried] == _ADDRESSES
    assert {each.status for each in tried} == {fate}
    assert all(each.email_id is None for each in tried)
    assert all(response.message in (each.detail or "") for each in tried)
    assert ("may have been sent" in (tried[0].detail or "")) == (fate is SendTestStatus.UNKNOWN)
