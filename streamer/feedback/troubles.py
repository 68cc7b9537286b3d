"""Why a mail failed after Resend had accepted it, if the account must wait for that. Pure."""

import re
from datetime import datetime, timedelta
from typing import NamedTuple

from streamer.flow.failure_stats import hold_until
from streamer.model.mail_event import EventType
from streamer.model.published import PublishedMailEvent

_FRESH = timedelta(minutes=10)
_TRY_AGAIN = timedelta(minutes=15)
_RULES = (
    (re.compile(r"daily.*quota|quota.*daily"), "daily_quota_exceeded", False),
    (re.compile(r"monthly.*quota|quota.*monthly"), "monthly_quota_exceeded", False),
    (re.compile(r"quota"), "email_above_quota", False),
    (re.compile(r"api[ _-]?key"), "invalid_api_key", False),
    (re.compile(r"domain"), "domain_not_verified", True),
)


class AccountTrouble(NamedTuple):
    """A trouble that is not the mail's.

    Attributes:
        domain: the sender's domain that is held; None for the whole account.
        reason: as of an answer that says the same.
        detail: Resend's words.
        until: when to try again.
    """

    domain: str | None
    reason: str
    detail: str
    until: datetime


def account_trouble(event: PublishedMailEvent, now: datetime) -> AccountTrouble | None:
    """Return the trouble that an event tells of; None if it tells of none, or of an old one."""
    if event.type != EventType.FAILED or now - event.occurred_at > _FRESH:
        return None
    detail = event.details.get("reason", "")
    for pattern, reason, is_of_sender in _RULES:
        if pattern.search(detail.lower()):
            domain = event.details.get("sender_domain") if is_of_sender else None
            if is_of_sender and not domain:
                return None
            return AccountTrouble(
                domain, reason, detail, hold_until(reason, now) or now + _TRY_AGAIN
            )
    return None
