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


class ErrorCategory(Enum):
    """Whose trouble it is, and with that what follows."""

    RATE_LIMIT = auto()
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
    UNAVAILABLE = auto()
    """It may have been taken or not: the same again, and it may befall every call."""


@dataclass(frozen=True, slots=True)
class ResponseRule:
    """Some answers that mean the same.

    Attributes:
        names: of the error; empty: any, and none at all.
        words: what the message has to hold, without regard to case; None: anything.
        example: a message as Resend gives it.
        reason: the trouble's own name; empty: the error's, or `http_` and the status.
        from_anyone: whether it need not be Resend's JSON.
        of_template: whether it is so for every mail that uses the template.
    """

    category: ErrorCategory
    statuses: Collection[int]
    names: Collection[str] = ()
    words: re.Pattern[str] | None = None
    example: str = ""
    reason: str = ""
    from_anyone: bool = False
    of_template: bool = False

    def matches(self, status: int, name: str, message: str, is_from_resend: bool) -> bool:
        """Whether an answer is of this row."""
        return (
            status in self.statuses
            and (is_from_resend or self.from_anyone)
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

RULES: tuple[ResponseRule, ...] = (
    ResponseRule(ErrorCategory.RATE_LIMIT, {429}, ["rate_limit_exceeded"]),
    ResponseRule(ErrorCategory.ACCOUNT, {429}, ["daily_quota_exceeded", "monthly_quota_exceeded"]),
    ResponseRule(ErrorCategory.ACCOUNT, {403}, ["email_above_quota"]),
    ResponseRule(ErrorCategory.RATE_LIMIT, {429}, from_anyone=True),
    ResponseRule(
        ErrorCategory.ACCOUNT,
        REFUSALS,
        [
            "missing_api_key",
            "invalid_api_key",
            "restricted_api_key",
            "suspended_api_key",
            "invalid_permission",
        ],
    ),
    ResponseRule(
        ErrorCategory.SENDER,
        {403},
        words=_NOT_THIS_DOMAIN,
        example="This API key is not authorized to send emails from acme.test",
        reason="domain_not_allowed",
        from_anyone=True,  # it has no name, and may come without its status too
    ),
    ResponseRule(
        ErrorCategory.ACCOUNT,
        REFUSALS,
        words=_ABOUT_THE_KEY,
        example="API key is invalid",
        reason="invalid_api_key",
    ),
    ResponseRule(
        ErrorCategory.SENDER,
        {403},
        ["validation_error"],
        example="The acme.test domain is not verified.",
        reason="domain_not_verified",
    ),
    ResponseRule(ErrorCategory.ACCOUNT, {401}),
    ResponseRule(
        ErrorCategory.CONTENT,
        {404},
        ["not_found"],
        words=_OF_A_TEMPLATE,
        example="Template not found",
        of_template=True,
    ),
    ResponseRule(
        ErrorCategory.ACCOUNT,
        {404},
        ["not_found"],
        example="The requested endpoint does not exist.",
    ),
    ResponseRule(ErrorCategory.ACCOUNT, {405}, ["method_not_allowed"]),
    ResponseRule(ErrorCategory.ACCOUNT, {400}, ["invalid_idempotency_key"]),
    ResponseRule(
        ErrorCategory.ACCOUNT, {422}, ["invalid_access", "invalid_region"]
    ),  # of other endpoints
    ResponseRule(ErrorCategory.CONFLICT, {409}, ["invalid_idempotent_request"]),
    ResponseRule(ErrorCategory.BUSY, {409}, ["concurrent_idempotent_requests", "resource_locked"]),
    ResponseRule(ErrorCategory.BUSY, {409}),
    ResponseRule(
        ErrorCategory.CONTENT,
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
    ResponseRule(ErrorCategory.UNAVAILABLE, {451}, ["security_error"]),
    ResponseRule(
        ErrorCategory.UNAVAILABLE,
        FAILURES,
        ["application_error", "internal_server_error", "service_unavailable"],
    ),
    ResponseRule(ErrorCategory.UNAVAILABLE, range(300, 600), from_anyone=True),
)

KNOWN = frozenset(name for row in RULES for name in row.names)
"""The names of errors that are in some row."""


def find_rule(status: int, name: str, message: str, is_from_resend: bool) -> ResponseRule:
    """The first row that has an answer.

    Args:
        name: of the error, empty if it has none.
        message: its words; of what is not Resend's, the beginning of the body.
        is_from_resend: whether the body was an error as Resend's API writes it.
    """
    return next(
        (row for row in RULES if row.matches(status, name, message, is_from_resend)), RULES[-1]
    )


class ErrorPattern(NamedTuple):
    """Trouble of the account's, or of the sender's domain, that words alone tell."""

    words: re.Pattern[str]
    category: ErrorCategory
    reason: str


_ERROR_PATTERNS = (
    ErrorPattern(_DAILY_QUOTA, ErrorCategory.ACCOUNT, "daily_quota_exceeded"),
    ErrorPattern(_MONTHLY_QUOTA, ErrorCategory.ACCOUNT, "monthly_quota_exceeded"),
    ErrorPattern(_NOT_THIS_DOMAIN, ErrorCategory.SENDER, "domain_not_allowed"),
    ErrorPattern(_ABOUT_THE_KEY, ErrorCategory.ACCOUNT, "invalid_api_key"),
    ErrorPattern(_NOT_VERIFIED, ErrorCategory.SENDER, "domain_not_verified"),
)


def find_pattern(message: str) -> ErrorPattern | None:
    """What the error of one mail in a batch, which has no status and no name, says of the account
    or of the sender; None if it is about the mail."""
    return next((each for each in _ERROR_PATTERNS if each.words.search(message)), None)


_NOT_OF_CONTENT = frozenset({402, 405, 407, 408, 421, 423, 425})


def may_be_content(row: ResponseRule, status: int, is_from_resend: bool) -> bool:
    """Whether an answer that nobody knows the meaning of may be a refusal of a mail.

    Resend refused for certain then, and took nothing. Statuses that say that it did not read, or
    that it may still be reading, are none of these.
    """
    return (
        row.category is ErrorCategory.UNAVAILABLE
        and is_from_resend
        and status in REFUSALS
        and status not in _NOT_OF_CONTENT
    )
