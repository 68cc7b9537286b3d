"""What each answer of Resend means: this reads like Resend's own table of errors."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.model.disposition import Again, Conflicting, OnHold, Refused, Taken, Throttled
from streamer.model.result import ItemResult
from streamer.provider.answers import judge, result_label
from streamer.provider.client import Answer
from streamer.provider.table import KNOWN, ROWS, Means, Row, row_of


def _answer(status: int | None, name: str = "", **headers: str) -> Answer:
    return Answer(status, name, "words", {}, {k.replace("_", "-"): v for k, v in headers.items()})


def _said(status: int, name: str, words: str, *, is_resends: bool = True) -> Answer:
    return Answer(status, name, words, {}, {}, is_resends=is_resends)


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
        (400, "missing_required_parameter", Refused("words")),
        (422, "missing_required_fields", Refused("words")),
        (422, "invalid_from_address", Refused("words")),
        (422, "invalid_access", OnHold("invalid_access", "words")),
        (422, "invalid_region", OnHold("invalid_region", "words")),
        (403, "email_above_quota", OnHold("email_above_quota", "words")),
        (401, "something_new", OnHold("http_401", "words")),
        (409, "something_new", Again("http_409")),
        (429, "something_new", Throttled(0.0)),
        (404, "not_found", OnHold("not_found", "words")),
        (405, "method_not_allowed", OnHold("method_not_allowed", "words")),
        (400, "invalid_idempotency_key", OnHold("invalid_idempotency_key", "words")),
        # What is in no row says nothing of a mail.
        (302, "", Again("http_302", failing=True)),
        (402, "payment_required", Again("http_402", failing=True)),
        (403, "something_new", Again("http_403", failing=True)),
        (406, "", Again("http_406", failing=True)),
        (411, "", Again("http_411", failing=True)),
        (413, "validation_error", Again("validation_error", failing=True)),
        (418, "teapot", Again("http_418", failing=True)),
        (421, "", Again("http_421", failing=True)),
        (422, "something_new", Again("http_422", failing=True)),
        (423, "", Again("http_423", failing=True)),
        (431, "", Again("http_431", failing=True)),
        (451, "security_error", Again("security_error", failing=True)),
        (599, "new_error", Again("http_599", failing=True)),
    ],
)
def test_an_error(status: int | None, name: str, verdict: object) -> None:
    assert judge(_answer(status, name), 2) == verdict


@pytest.mark.parametrize(
    ("status", "name", "words", "verdict"),
    [
        (400, "validation_error", "API key is invalid", "invalid_api_key"),
        (401, "validation_error", "API key is invalid", "invalid_api_key"),
        (403, "validation_error", "API key is invalid", "invalid_api_key"),
        (422, "validation_error", "The provided API key has expired.", "invalid_api_key"),
        (400, "", "Invalid API key", "invalid_api_key"),
        (403, "restricted_api_key", "API key is not active", "restricted_api_key"),
        (401, "restricted_api_key", "restricted to only send emails", "restricted_api_key"),
        (404, "not_found", "The requested endpoint does not exist", "not_found"),
        (404, "not_found", "", "not_found"),
    ],
)
def test_words_that_name_trouble_of_the_account(
    status: int, name: str, words: str, verdict: str
) -> None:
    assert judge(_said(status, name, words), 2) == OnHold(verdict, words)


@pytest.mark.parametrize("is_resends", [True, False])
@pytest.mark.parametrize(
    "words",
    [
        "This API key is not authorized to send emails from acme.test",
        "Not authorized to send emails from acme.test",
    ],
)
def test_a_key_that_may_not_send_for_a_domain_holds_that_domain(
    words: str, is_resends: bool
) -> None:
    verdict = judge(_said(403, "", words, is_resends=is_resends), 2)
    assert verdict == OnHold("domain_not_allowed", words, of_sender=True)


@pytest.mark.parametrize(
    ("status", "name", "words"),
    [
        (404, "not_found", "Template not found"),
        (404, "not_found", "The template `welcome` is not published."),
        (422, "validation_error", "Template is not published"),
        (422, "validation_error", "Invalid `to` field: api key is no address"),
        (400, "validation_error", "Invalid `tags` field."),
    ],
)
def test_words_that_name_trouble_of_the_content(status: int, name: str, words: str) -> None:
    assert judge(_said(status, name, words), 2) == Refused(words)


@given(st.integers(200, 599), st.text())
def test_what_is_not_resends_never_fails_a_recipient(status: int, body: str) -> None:
    answer = _said(status, "", body, is_resends=False)
    verdict = judge(answer, 2)
    if status == 429:
        assert verdict == Throttled(0.0)
    elif "not authorized to send" not in body:
        assert verdict == Again(f"http_{status}", failing=True)
    assert result_label(answer) == f"http_{status}"


def test_a_certificate_that_is_not_trusted_holds_the_account() -> None:
    answer = Answer(None, "untrusted_certificate", "self-signed", {}, {})
    assert judge(answer, 2) == OnHold("untrusted_certificate", "self-signed")
    assert result_label(answer) == "untrusted_certificate"


@given(st.integers(300, 599), st.sampled_from(sorted({"", "odd", *KNOWN})), st.text())
def test_only_a_row_of_the_content_refuses_mails(status: int, name: str, words: str) -> None:
    verdict = judge(_said(status, name, words), 2)
    row = row_of(status, name, words, True)
    assert isinstance(verdict, Refused) == (row.means is Means.CONTENT)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{min(row.statuses)}-{row.means.name}")
def test_each_row_is_reached(row: Row) -> None:
    """None stands behind a wider one."""
    for name in row.names or ("something_else",):
        for status in row.statuses:
            assert row_of(status, name, row.example, True).means is row.means
            break
    assert any(
        row_of(status, name, row.example, True) is row
        for status in row.statuses
        for name in row.names or ("something_else",)
    )


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


@given(st.data(), st.integers(1, 100))
def test_null_may_stand_in_the_place_of_a_refused_mail(data: st.DataObject, count: int) -> None:
    refused = data.draw(st.sets(st.integers(0, count - 1)))
    answer = Answer(
        200,
        "",
        "",
        {
            "data": [None if i in refused else {"id": f"id-{i}"} for i in range(count)],
            "errors": [{"index": i, "message": f"no {i}"} for i in refused],
        },
        {},
    )
    assert judge(answer, count) == Taken(
        [
            ItemResult("rejected", f"no {i}") if i in refused else ItemResult("sent", f"id-{i}")
            for i in range(count)
        ]
    )


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"data": [{"id": "a"}, {"id": "b"}], "errors": [{"index": 1, "message": "?"}]},
        {"data": [None, {"id": "b"}], "errors": [{"index": 1, "message": "?"}]},
        {"data": [None, {"id": "b"}]},
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
