"""The answers that say that a batch was not taken, as one table. Pure.

The names and statuses are those of Resend's error reference and of its SDKs; the words those
that Resend was seen to answer. The table in docs/reference.md is made from this one.

What is in no row says nothing about the mails: it is trouble of the way, and the same bytes are
sent again. So is whatever is not Resend's at all: a proxy's page, a firewall's, an empty body.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum, auto
from typing import NamedTuple


class Means(Enum):
    """Whose trouble it is, and with that what follows."""

    TOO_FAST = auto()
    """Nothing was taken; the account's calls pause."""
    ACCOUNT = auto()
    """Nothing was taken, and nothing of the account's will be until somebody does something."""
    SENDER = auto()
    """As that, for mails from the sender's domain alone."""
    CONTENT = auto()
    """Nothing was taken, for what the batch holds."""
    CONFLICT = auto()
    """Resend has another payload under the idempotency key."""
    BUSY = auto()
    """Resend is at it: the same again, after a wait."""
    WAY = auto()
    """It may have been taken or not: the same again, and it may befall every call."""


@dataclass(frozen=True, slots=True)
class Row:
    """Some answers that mean the same.

    Attributes:
        names: of the error; empty: any, and none at all.
        words: what the message has to hold, without regard to case; None: anything.
        example: a message as Resend gives it.
        why: the trouble's own name; empty: the error's, or `http_` and the status.
        anyones: whether it need not be Resend's JSON.
        of_template: whether it is so for every mail that uses the template.
    """

    means: Means
    statuses: Collection[int]
    names: Collection[str] = ()
    words: re.Pattern[str] | None = None
    example: str = ""
    why: str = ""
    anyones: bool = False
    of_template: bool = False

    def has(self, status: int, name: str, message: str, is_resends: bool) -> bool:
        """Whether an answer is of this row."""
        return (
            status in self.statuses
            and (is_resends or self.anyones)
            and (not self.names or name in self.names)
            and (self.words is None or self.words.search(message) is not None)
        )


REFUSALS = range(400, 500)
FAILURES = range(500, 600)

# A complaint of a mail names a field of it first, or quotes it, whatever its words are then.
_NO_FIELD = (
    r"^(?:(?!\b(?:fields?|subject|html|text|body|tags?|attachments?|templates?|variables?"
    r"|address(?:es)?|recipients?|idempoten\w*)\b)(?:[^`\"'\u201c\u2018]|(?<=\w)'(?=\w)))*?"
)


def _words(pattern: str) -> re.Pattern[str]:
    return re.compile(_NO_FIELD + pattern, re.IGNORECASE | re.DOTALL)


_ABOUT_THE_KEY = _words(r"\bapi[ _-]?keys?\b")
_NOT_THIS_DOMAIN = re.compile(r"not authorized to send emails? from", re.IGNORECASE)
_NOT_VERIFIED = _words(r"\b(?:domain (?:is )?not verified|only send testing emails)\b")
_DAILY_QUOTA = _words(r"\bdaily\b.*\bquota\b")
_MONTHLY_QUOTA = _words(r"\bmonthly\b.*\bquota\b")
_OF_A_TEMPLATE = re.compile(r"\btemplates?\b", re.IGNORECASE)

ROWS: tuple[Row, ...] = (
    Row(Means.TOO_FAST, {429}, ["rate_limit_exceeded"]),
    Row(Means.ACCOUNT, {429}, ["daily_quota_exceeded", "monthly_quota_exceeded"]),
    Row(Means.ACCOUNT, {403}, ["email_above_quota"]),
    Row(Means.TOO_FAST, {429}, anyones=True),
    Row(
        Means.ACCOUNT,
        REFUSALS,
        [
            "missing_api_key",
            "invalid_api_key",
            "restricted_api_key",
            "suspended_api_key",
            "invalid_permission",
        ],
    ),
    Row(
        Means.SENDER,
        {403},
        words=_NOT_THIS_DOMAIN,
        example="This API key is not authorized to send emails from acme.test",
        why="domain_not_allowed",
        anyones=True,  # it has no name, and may come without its status too
    ),
    Row(
        Means.ACCOUNT,
        REFUSALS,
        words=_ABOUT_THE_KEY,
        example="API key is invalid",
        why="invalid_api_key",
    ),
    Row(
        Means.SENDER,
        {403},
        ["validation_error"],
        example="The acme.test domain is not verified.",
        why="domain_not_verified",
    ),
    Row(Means.ACCOUNT, {401}),
    Row(
        Means.CONTENT,
        {404},
        ["not_found"],
        words=_OF_A_TEMPLATE,
        example="Template not found",
        of_template=True,
    ),
    Row(
        Means.ACCOUNT,
        {404},
        ["not_found"],
        example="The requested endpoint does not exist.",
    ),
    Row(Means.ACCOUNT, {405}, ["method_not_allowed"]),
    Row(Means.ACCOUNT, {400}, ["invalid_idempotency_key"]),
    Row(Means.ACCOUNT, {422}, ["invalid_access", "invalid_region"]),  # of other endpoints
    Row(Means.CONFLICT, {409}, ["invalid_idempotent_request"]),
    Row(Means.BUSY, {409}, ["concurrent_idempotent_requests", "resource_locked"]),
    Row(Means.BUSY, {409}),
    Row(
        Means.CONTENT,
        (400, 422),
        [
            "validation_error",
            "missing_required_field",
            "missing_required_fields",
            "missing_required_parameter",
            "invalid_parameter",
            "invalid_attachment",
            "invalid_from_address",
        ],
        example="Invalid `to` field.",
    ),
    Row(Means.WAY, {451}, ["security_error"]),
    Row(
        Means.WAY,
        FAILURES,
        ["application_error", "internal_server_error", "service_unavailable"],
    ),
    Row(Means.WAY, range(300, 600), anyones=True),
)

KNOWN = frozenset(name for row in ROWS for name in row.names)
"""The names of errors that are in some row."""


def row_of(status: int, name: str, message: str, is_resends: bool) -> Row:
    """The first row that has an answer.

    Args:
        name: of the error, empty if it has none.
        message: its words; of what is not Resend's, the beginning of the body.
        is_resends: whether the body was an error as Resend's API writes it.
    """
    return next((row for row in ROWS if row.has(status, name, message, is_resends)), ROWS[-1])


class Trouble(NamedTuple):
    """Trouble of the account's, or of the sender's domain, that words alone tell."""

    words: re.Pattern[str]
    means: Means
    why: str


_TROUBLES = (
    Trouble(_DAILY_QUOTA, Means.ACCOUNT, "daily_quota_exceeded"),
    Trouble(_MONTHLY_QUOTA, Means.ACCOUNT, "monthly_quota_exceeded"),
    Trouble(_NOT_THIS_DOMAIN, Means.SENDER, "domain_not_allowed"),
    Trouble(_ABOUT_THE_KEY, Means.ACCOUNT, "invalid_api_key"),
    Trouble(_NOT_VERIFIED, Means.SENDER, "domain_not_verified"),
)


def trouble_of(message: str) -> Trouble | None:
    """What the error of one mail in a batch, which has no status and no name, says of the account
    or of the sender; None if it is about the mail."""
    return next((each for each in _TROUBLES if each.words.search(message)), None)


_NOT_OF_CONTENT = frozenset({402, 405, 407, 408, 421, 423, 425})


def may_be_content(row: Row, status: int, is_resends: bool) -> bool:
    """Whether an answer that nobody knows the meaning of may be a refusal of a mail.

    Resend refused for certain then, and took nothing. Statuses that say that it did not read, or
    that it may still be reading, are none of these.
    """
    return (
        row.means is Means.WAY
        and is_resends
        and status in REFUSALS
        and status not in _NOT_OF_CONTENT
    )
