"""What each answer of Resend means: this reads like Resend's own table of errors."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.model.disposition import (
    Accepted,
    Conflicting,
    RateLimited,
    Rejected,
    Retry,
    Suspended,
)
from streamer.model.result import ItemResult
from streamer.provider.client import ApiResponse
from streamer.provider.responses import classify_response, result_label
from streamer.provider.rules import KNOWN, RULES, ErrorCategory, ResponseRule, find_rule


def _answer(status: int | None, name: str = "", **headers: str) -> ApiResponse:
    return ApiResponse(
        status, name, "words", {}, {k.replace("_", "-"): v for k, v in headers.items()}
    )


def _said(status: int, name: str, words: str, *, is_from_resend: bool = True) -> ApiResponse:
    return ApiResponse(status, name, words, {}, {}, is_from_resend=is_from_resend)


@pytest.mark.parametrize(
    ("status", "name", "disposition"),
    [
        (429, "rate_limit_exceeded", RateLimited(0.0)),
        (500, "application_error", Retry("application_error", failing=True)),
        (503, "service_unavailable", Retry("service_unavailable", failing=True)),
        (502, "application_error", Retry("application_error", failing=True)),
        (None, "HttpClientError", Retry("no_answer", failing=True)),
        (409, "concurrent_idempotent_requests", Retry("concurrent_idempotent_requests")),
        (409, "resource_locked", Retry("resource_locked")),
        (409, "invalid_idempotent_request", Conflicting("words")),
        (429, "daily_quota_exceeded", Suspended("daily_quota_exceeded", "words")),
        (429, "monthly_quota_exceeded", Suspended("monthly_quota_exceeded", "words")),
        (403, "validation_error", Suspended("domain_not_verified", "words", sender_only=True)),
        (401, "missing_api_key", Suspended("missing_api_key", "words")),
        (403, "invalid_api_key", Suspended("invalid_api_key", "words")),
        (401, "restricted_api_key", Suspended("restricted_api_key", "words")),
        (403, "suspended_api_key", Suspended("suspended_api_key", "words")),
        (403, "invalid_permission", Suspended("invalid_permission", "words")),
        (422, "missing_required_field", Rejected("words")),
        (422, "invalid_parameter", Rejected("words")),
        (422, "invalid_attachment", Rejected("words")),
        (422, "validation_error", Rejected("words")),
        (400, "validation_error", Rejected("words")),
        (400, "missing_required_parameter", Rejected("words")),
        (422, "missing_required_fields", Rejected("words")),
        (422, "invalid_from_address", Rejected("words")),
        (422, "invalid_access", Suspended("invalid_access", "words")),
        (422, "invalid_region", Suspended("invalid_region", "words")),
        (403, "email_above_quota", Suspended("email_above_quota", "words")),
        (401, "something_new", Suspended("http_401", "words")),
        (409, "something_new", Retry("http_409")),
        (429, "something_new", RateLimited(0.0)),
        (404, "not_found", Suspended("not_found", "words")),
        (405, "method_not_allowed", Suspended("method_not_allowed", "words")),
        (400, "invalid_idempotency_key", Suspended("invalid_idempotency_key", "words")),
        # What is in no row fails no recipient by itself.
        (302, "", Retry("http_302", failing=True)),
        (402, "payment_required", Retry("http_402", failing=True)),
        (405, "something_new", Retry("http_405", failing=True)),
        (407, "", Retry("http_407", failing=True)),
        (408, "", Retry("http_408", failing=True)),
        (425, "", Retry("http_425", failing=True)),
        (403, "something_new", Retry("http_403", failing=True, may_be_content=True)),
        (406, "", Retry("http_406", failing=True, may_be_content=True)),
        (411, "", Retry("http_411", failing=True, may_be_content=True)),
        (413, "validation_error", Retry("validation_error", failing=True, may_be_content=True)),
        (418, "teapot", Retry("http_418", failing=True, may_be_content=True)),
        (421, "", Retry("http_421", failing=True)),
        (422, "something_new", Retry("http_422", failing=True, may_be_content=True)),
        (423, "", Retry("http_423", failing=True)),
        (431, "", Retry("http_431", failing=True, may_be_content=True)),
        (451, "security_error", Retry("security_error", failing=True, may_be_content=True)),
        (599, "new_error", Retry("http_599", failing=True)),
    ],
)
def test_errors_are_classified(status: int | None, name: str, disposition: object) -> None:
    assert classify_response(_answer(status, name), 2) == disposition


@pytest.mark.parametrize(
    ("status", "name", "words", "disposition"),
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
def test_account_errors_are_recognised_by_message(
    status: int, name: str, words: str, disposition: str
) -> None:
    assert classify_response(_said(status, name, words), 2) == Suspended(disposition, words)


@pytest.mark.parametrize("is_from_resend", [True, False])
@pytest.mark.parametrize(
    "words",
    [
        "This API key is not authorized to send emails from acme.test",
        "Not authorized to send emails from acme.test",
    ],
)
def test_a_key_not_allowed_for_a_domain_holds_that_domain(words: str, is_from_resend: bool) -> None:
    disposition = classify_response(_said(403, "", words, is_from_resend=is_from_resend), 2)
    assert disposition == Suspended("domain_not_allowed", words, sender_only=True)


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
def test_content_errors_are_recognised_by_message(status: int, name: str, words: str) -> None:
    of_template = status == 404
    assert classify_response(_said(status, name, words), 2) == Rejected(
        words, of_template=of_template
    )


KEY_WORDS = [
    "API key is invalid",
    "API key not found",
    "API-key is wrong",
    "APIKey rejected",
    "Invalid API key",
    "Missing API key in the `Authorization` header",
    "Missing authorization header: an API key is required.",
    "No API key provided",
    "No api_key was given.",
    "Please provide a valid API key.",
    "The API key you have provided in the request is not valid.",
    "The provided API key has expired.",
    "This API key is suspended.",
    "Unauthorized: the request has no valid API key",
    "You didn't provide an API key",
    "You must provide a valid API key.",
    "Your API key was revoked.",
    "API keys of this team are disabled",
]
FIELDS = ["to", "from", "subject", "html", "text", "tags", "headers", "reply_to", "template"]


@pytest.mark.parametrize("words", KEY_WORDS)
@pytest.mark.parametrize("status", [400, 401, 403, 422])
def test_a_validation_error_about_the_key_holds_the_account(status: int, words: str) -> None:
    response = _said(status, "validation_error", words)
    assert classify_response(response, 2) == Suspended("invalid_api_key", words)


@given(
    st.sampled_from(FIELDS),
    st.sampled_from(
        [
            "Invalid `{}` field. ",
            "Invalid '{}' field: ",
            'Invalid "{}": ',
            "The {} field has: ",
            "Missing `{}` field. ",
            "`{}` must not be: ",
        ]
    ),
    st.sampled_from(KEY_WORDS),
)
def test_a_field_error_is_about_content_whatever_it_quotes(
    field: str, begin: str, words: str
) -> None:
    message = begin.format(field) + words
    assert classify_response(_said(422, "validation_error", message), 2) == Rejected(message)


@pytest.mark.parametrize(
    "words",
    [
        "The template variable api_key is not defined",
        "'Your API key' is too long a subject",
        "Tag API key has spaces",
        "The attachment API key.txt is too large",
    ],
)
def test_content_errors_about_keys_are_not_account_errors(words: str) -> None:
    assert classify_response(_said(422, "validation_error", words), 2) == Rejected(words)


def test_other_kinds_of_keys_are_not_account_errors() -> None:
    words = "This idempotency key was used with another API key"
    assert classify_response(_said(409, "invalid_idempotent_request", words), 2) == Conflicting(
        words
    )


@given(st.integers(400, 499), st.sampled_from(["", "odd", "validation_error"]), st.text())
def test_possible_content_errors_were_certainly_rejected(
    status: int, name: str, words: str
) -> None:
    foreign = classify_response(_said(status, name, words, is_from_resend=False), 2)
    assert not isinstance(foreign, Retry) or not foreign.may_be_content
    disposition = classify_response(_said(status, name, words), 2)
    if isinstance(disposition, Retry) and status in {402, 405, 407, 408, 409, 421, 423, 425, 429}:
        assert not disposition.may_be_content


@given(st.integers(200, 599), st.text())
def test_foreign_responses_never_fail_a_recipient(status: int, body: str) -> None:
    response = _said(status, "", body, is_from_resend=False)
    disposition = classify_response(response, 2)
    if status == 429:
        assert disposition == RateLimited(0.0)
    elif "not authorized to send" not in body:
        assert disposition == Retry(f"http_{status}", failing=True)
    assert result_label(response) == f"http_{status}"


def test_an_untrusted_certificate_holds_the_account() -> None:
    response = ApiResponse(None, "untrusted_certificate", "self-signed", {}, {})
    assert classify_response(response, 2) == Suspended("untrusted_certificate", "self-signed")
    assert result_label(response) == "untrusted_certificate"


@given(st.integers(300, 599), st.sampled_from(sorted({"", "odd", *KNOWN})), st.text())
def test_only_content_rules_reject_mails(status: int, name: str, words: str) -> None:
    disposition = classify_response(_said(status, name, words), 2)
    row = find_rule(status, name, words, True)
    assert isinstance(disposition, Rejected) == (row.category is ErrorCategory.CONTENT)


@pytest.mark.parametrize("row", RULES, ids=lambda row: f"{min(row.statuses)}-{row.category.name}")
def test_each_rule_is_reachable(row: ResponseRule) -> None:
    """None stands behind a wider one."""
    for name in row.names or ("something_else",):
        for status in row.statuses:
            assert find_rule(status, name, row.example, True).category is row.category
            break
    assert any(
        find_rule(status, name, row.example, True) is row
        for status in row.statuses
        for name in row.names or ("something_else",)
    )


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("3", 3.0), ("0.5", 0.5), ("-1", 0.0), ("soon", 0.0), ("nan", 0.0), ("1e9", 86_400.0)],
)
def test_retry_after(header: str, seconds: float) -> None:
    disposition = classify_response(_answer(429, "rate_limit_exceeded", retry_after=header), 1)
    assert disposition == RateLimited(seconds)


@given(st.data(), st.integers(1, 100))
def test_ids_are_matched_to_accepted_mails(data: st.DataObject, count: int) -> None:
    refused = data.draw(st.sets(st.integers(0, count - 1)))
    order = data.draw(st.permutations(sorted(refused)))
    response = ApiResponse(
        200,
        "",
        "",
        {
            "data": [{"id": f"id-{index}"} for index in range(count) if index not in refused],
            "errors": [{"index": index, "message": f"no {index}"} for index in order],
        },
        {},
    )
    assert classify_response(response, count) == Accepted(
        [
            ItemResult("rejected", f"no {index}")
            if index in refused
            else ItemResult("sent", f"id-{index}")
            for index in range(count)
        ]
    )


@given(st.data(), st.integers(1, 100))
def test_null_can_replace_a_rejected_mail(data: st.DataObject, count: int) -> None:
    refused = data.draw(st.sets(st.integers(0, count - 1)))
    response = ApiResponse(
        200,
        "",
        "",
        {
            "data": [None if i in refused else {"id": f"id-{i}"} for i in range(count)],
            "errors": [{"index": i, "message": f"no {i}"} for i in refused],
        },
        {},
    )
    assert classify_response(response, count) == Accepted(
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
def test_unreadable_responses_are_never_sent(data: dict[str, object]) -> None:
    disposition = classify_response(ApiResponse(200, "", "", data, {}), 2)
    assert disposition == Retry("unreadable", unreadable=True)


def test_a_success_with_a_broken_body_is_unreadable() -> None:
    response = ApiResponse(200, "application_error", "Failed to decode JSON response", {}, {})
    assert classify_response(response, 1) == Retry("unreadable", unreadable=True)
    assert result_label(response) == "unreadable"


def test_labels_are_bounded() -> None:
    assert result_label(_answer(500, "whatever they invent")) == "http_500"
    assert result_label(_answer(200)) == "accepted"
    assert result_label(_answer(None)) == "no_answer"


def _items(*words: str | None) -> ApiResponse:
    """A permissive answer: an id for None, else the words that the mail was refused with."""
    ids = [{"id": f"id-{index}"} for index, each in enumerate(words) if each is None]
    errors = [
        {"index": index, "message": each} for index, each in enumerate(words) if each is not None
    ]
    return ApiResponse(200, "", "", {"data": ids, "errors": errors}, {})


NOT_VERIFIED = "The acme.test domain is not verified. Please, add and verify your domain"
NOT_ALLOWED = "This API key is not authorized to send emails from acme.test"
CONTENT = "Invalid `to` field. The address is refused."


@pytest.mark.parametrize(
    ("words", "why", "of_sender"),
    [
        ("API key is invalid", "invalid_api_key", False),
        ("You must provide a valid API key.", "invalid_api_key", False),
        ("You have reached your daily email sending quota.", "daily_quota_exceeded", False),
        ("You have reached your monthly email sending quota.", "monthly_quota_exceeded", False),
        (NOT_ALLOWED, "domain_not_allowed", True),
        (NOT_VERIFIED, "domain_not_verified", True),
        ("You can only send testing emails to your own address.", "domain_not_verified", True),
    ],
)
def test_items_all_rejected_for_the_account_reject_no_mail(
    words: str, why: str, of_sender: bool
) -> None:
    held = Suspended(why, words, sender_only=of_sender, is_key_used=True)
    assert classify_response(_items(words), 1) == held
    assert classify_response(_items(words, words, words), 3) == held
    # Whoever is refused for the content as well is so again when the account is well.
    assert classify_response(_items(CONTENT, words), 2) == held
    assert result_label(_items(words)) == "accepted"


def test_account_errors_precede_sender_errors() -> None:
    words = "API key is invalid"
    assert classify_response(_items(NOT_VERIFIED, words), 2) == Suspended(
        "invalid_api_key", words, is_key_used=True
    )


def test_partial_acceptance_gives_every_mail_a_result() -> None:
    words = "You have reached your daily email sending quota."
    assert classify_response(_items(None, words), 2) == Accepted(
        [ItemResult("sent", "id-0"), ItemResult("rejected", words)]
    )


@given(st.lists(st.sampled_from([CONTENT, f"{CONTENT} {NOT_VERIFIED}", "odd"]), min_size=1))
def test_items_with_content_errors_are_rejected(words: list[str]) -> None:
    rejected = [ItemResult("rejected", each) for each in words]
    assert classify_response(_items(*words), len(words)) == Accepted(rejected)
