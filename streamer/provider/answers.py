"""What each answer of Resend means for the batch that it answers. Pure.

The names and statuses are those of Resend's error reference. What the pages leave open is
decided here so that no mail is sent twice and none is lost.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from streamer.model.reasons import Reason
from streamer.model.result import ItemResult
from streamer.provider.client import Answer

ACCEPTED = "accepted"
NO_ANSWER = "no_answer"
UNREADABLE = "unreadable"
DOMAIN_NOT_VERIFIED = "domain_not_verified"

_BUSY = {"concurrent_idempotent_requests", "resource_locked"}
_QUOTAS = {"daily_quota_exceeded", "monthly_quota_exceeded"}
_KEYS = {
    "missing_api_key",
    "invalid_api_key",
    "restricted_api_key",
    "suspended_api_key",
    "invalid_permission",
}
_OUR_DEFECTS = {"not_found", "method_not_allowed", "invalid_idempotency_key"}
_KNOWN = (
    _BUSY
    | _QUOTAS
    | _KEYS
    | _OUR_DEFECTS
    | {
        "rate_limit_exceeded",
        "invalid_idempotent_request",
        "validation_error",
        "missing_required_field",
        "invalid_parameter",
        "invalid_attachment",
        "application_error",
        "service_unavailable",
        "internal_server_error",
    }
)


@dataclass(frozen=True, slots=True)
class Taken:
    """The batch was taken; one result for each of its mails, refused ones among them."""

    items: list[ItemResult]


@dataclass(frozen=True, slots=True)
class Again:
    """It may have been taken or not: the same bytes must be sent again, under the same key.

    Attributes:
        why: the name of the trouble.
        after_s: what `retry-after` asked for.
        failing: it may be the provider that fails, for everybody.
        unreadable: Resend took it but said so in a way that cannot be understood.
    """

    why: str
    after_s: float = 0.0
    failing: bool = False
    unreadable: bool = False


@dataclass(frozen=True, slots=True)
class Throttled:
    """Nothing was taken: the account was called too fast, and must not be for `after_s`."""

    after_s: float


@dataclass(frozen=True, slots=True)
class OnHold:
    """Nothing was taken, and nothing will be for a while, for a trouble of the account's.

    Attributes:
        why: the name of the trouble: a quota, a refused key, a wrong URL.
        detail: Resend's words.
        of_sender: it concerns the sender's domain alone.
    """

    why: str
    detail: str
    of_sender: bool = False


@dataclass(frozen=True, slots=True)
class Refused:
    """Nothing of the batch was taken, for its content."""

    detail: str


@dataclass(frozen=True, slots=True)
class Conflicting:
    """Resend has another payload under this key: what it did with that is not known."""

    detail: str


Verdict = Taken | Again | Throttled | OnHold | Refused | Conflicting


def judge(answer: Answer, count: int) -> Verdict:
    """Say what an answer to a batch of `count` mails means."""
    status, name = answer.status, answer.name
    if status is None:
        return Again(NO_ANSWER, failing=True)
    if status < 300:
        return _read_items(answer, count)
    if name == "invalid_idempotent_request":
        return Conflicting(answer.message)
    why = name if name in _KNOWN else f"http_{status}"
    if status == 403 and name == "validation_error":
        return OnHold(DOMAIN_NOT_VERIFIED, answer.message, of_sender=True)
    if name in _QUOTAS or name in _KEYS or status in (401, 403):
        return OnHold(why, answer.message)
    if name in _OUR_DEFECTS or status in (404, 405) or status < 400:
        return OnHold(why, answer.message)
    after_s = _retry_after(answer.headers)
    if status == 429:
        return Throttled(after_s)
    if name in _BUSY or status == 409:
        return Again(why, after_s)
    if status in (408, 425) or status >= 500:
        return Again(why, after_s, failing=True)
    return Refused(answer.message)


def result_label(answer: Answer) -> str:
    """The answer in one word, for metrics: `accepted`, or the error's name."""
    if answer.status is None:
        return NO_ANSWER
    if not answer.name and answer.status < 300:
        return ACCEPTED
    if answer.status < 300:
        return UNREADABLE
    return answer.name if answer.name in _KNOWN else f"http_{answer.status}"


def _read_items(answer: Answer, count: int) -> Taken | Again:
    """Give each mail its id or its error.

    In permissive mode `errors` names the refused mails by their index into the request, and
    `data` has the ids of all others, in their order.
    """
    unreadable = Again(UNREADABLE, unreadable=True)
    data, errors = answer.data.get("data"), answer.data.get("errors") or []
    if not isinstance(data, list) or not isinstance(errors, list):
        return unreadable
    refused: dict[int, str] = {}
    for error in errors:
        if not isinstance(error, dict):
            return unreadable
        index = error.get("index")
        if not isinstance(index, int) or not 0 <= index < count or index in refused:
            return unreadable
        refused[index] = str(error.get("message") or "refused without a word")
    if len(data) + len(refused) != count:
        return unreadable
    ids = iter(data)
    items = []
    for index in range(count):
        if index in refused:
            items.append(ItemResult.of(Reason.REJECTED, refused[index]))
            continue
        entry = next(ids)
        email_id = entry.get("id") if isinstance(entry, dict) else None
        if not isinstance(email_id, str) or not email_id:
            return unreadable
        items.append(ItemResult.sent(email_id))
    return Taken(items)


def _retry_after(headers: Mapping[str, str]) -> float:
    try:
        seconds = float(headers.get("retry-after", "0"))
    except ValueError:  # a date, which Resend does not send
        return 0.0
    return min(max(seconds, 0.0), 86_400.0) if seconds == seconds else 0.0
