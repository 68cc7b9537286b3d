"""What each answer of Resend means: this reads like Resend's own table of errors."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.model.result import ItemResult
from streamer.provider.answers import (
    Again,
    Conflicting,
    OnHold,
    Refused,
    Taken,
    Throttled,
    judge,
    result_label,
)
from streamer.provider.client import Answer


def _answer(status: int | None, name: str = "", **headers: str) -> Answer:
    return Answer(status, name, "words", {}, {k.replace("_", "-"): v for k, v in headers.items()})


@pytest.mark.parametrize(
    ("status", "name", "verdict"),
    [
        (429, "rate_limit_exceeded", Throttled(0.0)),
        (500, "application_error", Again("application_error", failing=True)),
        (503, "service_unavailable", Again("service_unavailable", failing=True)),
        (502, "application_error", Again("application_error", failing=True)),
        (None, "HttpClientError", Again("no_answer", failing=True)),
        (409, "concurrent_idempotent_requests", Again("concurrent_idempotent_requests")),
        (409, "resource_locked", Again("resource_locked")),
        (409, "invalid_idempotent_request", Conflicting("words")),
        (429, "daily_quota_exceeded", OnHold("daily_quota_exceeded", "words")),
        (429, "monthly_quota_exceeded", OnHold("monthly_quota_exceeded", "words")),
        (403, "validation_error", OnHold("domain_not_verified", "words", of_sender=True)),
        (401, "missing_api_key", OnHold("missing_api_key", "words")),
        (403, "invalid_api_key", OnHold("invalid_api_key", "words")),
        (401, "restricted_api_key", OnHold("restricted_api_key", "words")),
        (403, "suspended_api_key", OnHold("suspended_api_key", "words")),
        (403, "invalid_permission", OnHold("invalid_permission", "words")),
        (422, "missing_required_field", Refused("words")),
        (422, "invalid_parameter", Refused("words")),
        (422, "invalid_attachment", Refused("words")),
        (422, "validation_error", Refused("words")),
        (400, "validation_error", Refused("words")),
        (413, "application_error", Refused("words")),
        (404, "not_found", OnHold("not_found", "words")),
        (405, "method_not_allowed", OnHold("method_not_allowed", "words")),
        (400, "invalid_idempotency_key", OnHold("invalid_idempotency_key", "words")),
        (302, "application_error", OnHold("application_error", "words")),
        (418, "teapot", Refused("words")),
        (599, "new_error", Again("http_599", failing=True)),
    ],
)
def test_an_error(status: int | None, name: str, verdict: object) -> None:
    assert judge(_answer(status, name), 2) == verdict


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("3", 3.0), ("0.5", 0.5), ("-1", 0.0), ("soon", 0.0), ("nan", 0.0), ("1e9", 86_400.0)],
)
def test_retry_after(header: str, seconds: float) -> None:
    verdict = judge(_answer(429, "rate_limit_exceeded", retry_after=header), 1)
    assert verdict == Throttled(seconds)


@given(st.data(), st.integers(1, 100))
def test_ids_go_to_the_mails_that_were_not_refused(data: st.DataObject, count: int) -> None:
    refused = data.draw(st.sets(st.integers(0, count - 1)))
    order = data.draw(st.permutations(sorted(refused)))
    answer = Answer(
        200,
        "",
        "",
        {
            "data": [{"id": f"id-{index}"} for index in range(count) if index not in refused],
            "errors": [{"index": index, "message": f"no {index}"} for index in order],
        },
        {},
    )
    assert judge(answer, count) == Taken(
        [
            ItemResult("rejected", f"no {index}")
            if index in refused
            else ItemResult("sent", f"id-{index}")
            for index in range(count)
        ]
    )


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"data": None},
        {"data": [{"id": "a"}]},
        {"data": [{"id": "a"}, {"id": "b"}, {"id": "c"}]},
        {"data": [{"id": "a"}, {"id": ""}]},
        {"data": [{"id": "a"}, {}]},
        {"data": [{"id": "a"}, "b"]},
        {"data": [{"id": "a"}], "errors": [{"index": 2, "message": "?"}]},
        {"data": [{"id": "a"}], "errors": [{"message": "?"}]},
        {"data": [], "errors": [{"index": 0}, {"index": 0}]},
        {"data": [{"id": "a"}], "errors": "?"},
    ],
)
def test_what_cannot_be_understood_is_never_sent(data: dict[str, object]) -> None:
    verdict = judge(Answer(200, "", "", data, {}), 2)
    assert verdict == Again("unreadable", unreadable=True)


def test_a_success_with_a_broken_body_is_unreadable() -> None:
    answer = Answer(200, "application_error", "Failed to decode JSON response", {}, {})
    assert judge(answer, 1) == Again("unreadable", unreadable=True)
    assert result_label(answer) == "unreadable"


def test_labels_are_a_bounded_set() -> None:
    assert result_label(_answer(500, "whatever they invent")) == "http_500"
    assert result_label(_answer(200)) == "accepted"
    assert result_label(_answer(None)) == "no_answer"
