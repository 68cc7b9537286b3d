"""What each answer of Resend means for the batch that it answers. Pure.

Which refusal means what stands in the table. What Resend's pages leave open is decided here so
that no mail is sent twice and none is lost.
"""

from collections.abc import Iterable, Mapping

from streamer.model.disposition import (
    Again,
    Conflicting,
    OnHold,
    Refused,
    Taken,
    Throttled,
    Verdict,
)
from streamer.model.reasons import Reason
from streamer.model.result import ItemResult
from streamer.provider.client import UNTRUSTED, Answer
from streamer.provider.table import KNOWN, Means, may_be_content, row_of, trouble_of

ACCEPTED = "accepted"
NO_ANSWER = "no_answer"
UNREADABLE = "unreadable"


def judge(answer: Answer, count: int) -> Verdict:
    """Say what an answer to a batch of `count` mails means."""
    status = answer.status
    if status is None:
        if answer.name == UNTRUSTED:
            return OnHold(UNTRUSTED, answer.message)
        return Again(NO_ANSWER, failing=True)
    if status < 300 and answer.is_resends:
        return _read_items(answer, count)
    row = row_of(status, answer.name, answer.message, answer.is_resends)
    why = row.why or _name(answer)
    after_s = _retry_after(answer.headers)
    match row.means:
        case Means.TOO_FAST:
            return Throttled(after_s)
        case Means.ACCOUNT:
            return OnHold(why, answer.message)
        case Means.SENDER:
            return OnHold(why, answer.message, of_sender=True)
        case Means.CONTENT:
            return Refused(answer.message, of_template=row.of_template)
        case Means.CONFLICT:
            return Conflicting(answer.message)
        case Means.BUSY:
            return Again(why, after_s)
        case Means.WAY:
            unknown = not after_s and may_be_content(row, status, answer.is_resends)
            return Again(why, after_s, failing=True, may_be_content=unknown)


def result_label(answer: Answer) -> str:
    """The answer in one word, for metrics: `accepted`, or the error's name."""
    if answer.status is None:
        return UNTRUSTED if answer.name == UNTRUSTED else NO_ANSWER
    if answer.status >= 300 or not answer.is_resends:
        return _name(answer)
    return UNREADABLE if answer.name else ACCEPTED


def _name(answer: Answer) -> str:
    return answer.name if answer.name in KNOWN else f"http_{answer.status}"


def _read_items(answer: Answer, count: int) -> Taken | Again | OnHold:
    """Give each mail its id or its error, or hold what none of them is to blame for.

    In permissive mode `errors` names the refused mails by their index into the request. `data`
    has the ids of all others in their order, or an id or null for each.
    """
    unreadable = Again(UNREADABLE, unreadable=True)
    data, errors = answer.data.get("data") or [], answer.data.get("errors") or []
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
    if len(data) == count:
        if any(data[index] is not None for index in refused):
            return unreadable
        data = [entry for index, entry in enumerate(data) if index not in refused]
    if len(data) + len(refused) != count:
        return unreadable
    if not data:
        trouble = _trouble(refused.values())
        if trouble is not None:
            return trouble
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


def _trouble(refusals: Iterable[str]) -> OnHold | None:
    """The trouble of the account's or the sender's that mails were refused for.

    Where it is so for some, what others were refused for is seen again when it is over.
    """
    found = [(trouble, words) for words in refusals if (trouble := trouble_of(words)) is not None]
    if not found:
        return None
    trouble, words = min(found, key=lambda each: each[0].means is Means.SENDER)
    return OnHold(trouble.why, words, of_sender=trouble.means is Means.SENDER, is_key_used=True)


def _retry_after(headers: Mapping[str, str]) -> float:
    try:
        seconds = float(headers.get("retry-after", "0"))
    except ValueError:  # a date, which Resend does not send
        return 0.0
    return min(max(seconds, 0.0), 86_400.0) if seconds == seconds else 0.0
