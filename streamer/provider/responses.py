"""Classifies Resend's responses to batches. Pure.

Errors are classified by the table in `streamer.provider.rules`. Whatever Resend's documentation
leaves open is decided such that no mail is sent twice and none is lost.
"""

from collections.abc import Iterable, Mapping

from streamer.model.disposition import (
    Accepted,
    Conflicting,
    Disposition,
    RateLimited,
    Rejected,
    Retry,
    Suspended,
)
from streamer.model.reasons import Reason
from streamer.model.result import ItemResult
from streamer.provider.client import UNTRUSTED, ApiResponse
from streamer.provider.rules import KNOWN, ErrorCategory, find_pattern, find_rule, may_be_content

ACCEPTED = "accepted"
NO_RESPONSE = "no_answer"
UNREADABLE = "unreadable"


def classify_response(response: ApiResponse, count: int) -> Disposition:
    """Return the disposition of a batch of `count` mails, given its response."""
    status = response.status
    if status is None:
        if response.name == UNTRUSTED:
            return Suspended(UNTRUSTED, response.message)
        return Retry(NO_RESPONSE, failing=True)
    if status < 300 and response.is_from_resend:
        return _read_items(response, count)
    rule = find_rule(status, response.name, response.message, response.is_from_resend)
    reason = rule.reason or _name(response)
    retry_after_s = _retry_after(response.headers)
    match rule.category:
        case ErrorCategory.RATE_LIMIT:
            return RateLimited(retry_after_s)
        case ErrorCategory.ACCOUNT:
            return Suspended(reason, response.message)
        case ErrorCategory.SENDER:
            return Suspended(reason, response.message, sender_only=True)
        case ErrorCategory.CONTENT:
            return Rejected(response.message, of_template=rule.of_template)
        case ErrorCategory.CONFLICT:
            return Conflicting(response.message)
        case ErrorCategory.BUSY:
            return Retry(reason, retry_after_s)
        case ErrorCategory.UNAVAILABLE:
            unknown = not retry_after_s and may_be_content(rule, status, response.is_from_resend)
            return Retry(reason, retry_after_s, failing=True, may_be_content=unknown)


def result_label(response: ApiResponse) -> str:
    """Return a metric label for a response: `accepted`, or the error's name."""
    if response.status is None:
        return UNTRUSTED if response.name == UNTRUSTED else NO_RESPONSE
    if response.status >= 300 or not response.is_from_resend:
        return _name(response)
    return UNREADABLE if response.name else ACCEPTED


def _name(response: ApiResponse) -> str:
    return response.name if response.name in KNOWN else f"http_{response.status}"


def _read_items(response: ApiResponse, count: int) -> Accepted | Retry | Suspended:
    """Assign each mail its id or its error, or suspend if the account or sender is at fault.

    In permissive mode, `errors` identifies rejected mails by their index in the request. `data`
    has either the ids of all other mails in order, or an id or null for every mail.
    """
    unreadable = Retry(UNREADABLE, unreadable=True)
    data, errors = response.data.get("data") or [], response.data.get("errors") or []
    if not isinstance(data, list) or not isinstance(errors, list):
        return unreadable
    rejected: dict[int, str] = {}
    for error in errors:
        if not isinstance(error, dict):
            return unreadable
        index = error.get("index")
        if not isinstance(index, int) or not 0 <= index < count or index in rejected:
            return unreadable
        rejected[index] = str(error.get("message") or "rejected without a message")
    if rejected and len(data) == count:
        if any(data[index] is not None for index in rejected):
            return unreadable
        data = [entry for index, entry in enumerate(data) if index not in rejected]
    if len(data) + len(rejected) != count:
        return unreadable
    if not data:
        trouble = _trouble(rejected.values())
        if trouble is not None:
            return trouble
    items = []
    for entry in data:
        email_id = entry.get("id") if isinstance(entry, dict) else None
        if not isinstance(email_id, str) or not email_id:
            return unreadable
        items.append(ItemResult.sent(email_id))
    # In ascending order, so that each insertion finds the earlier items at their places.
    for index in sorted(rejected):
        items.insert(index, ItemResult.of(Reason.REJECTED, rejected[index]))
    return Accepted(items)


def _trouble(refusals: Iterable[str]) -> Suspended | None:
    """Return the account or sender error among these rejections, if there is one.

    If only some rejections have such an error, the others recur once it is resolved.
    """
    found = [(trouble, words) for words in refusals if (trouble := find_pattern(words)) is not None]
    if not found:
        return None
    trouble, words = min(found, key=lambda each: each[0].category is ErrorCategory.SENDER)
    return Suspended(
        trouble.reason,
        words,
        sender_only=trouble.category is ErrorCategory.SENDER,
        is_key_used=True,
    )


def _retry_after(headers: Mapping[str, str]) -> float:
    try:
        seconds = float(headers.get("retry-after", "0"))
    except ValueError:  # an HTTP date, which Resend does not send
        return 0.0
    return min(max(seconds, 0.0), 86_400.0) if seconds == seconds else 0.0
