"""The table of responses that mean a batch was not accepted. Pure.

Names and statuses are taken from Resend's error reference and its SDKs, the messages from
responses that Resend was seen to send. The table in docs/reference.md is generated from this one.

A response that matches no rule says nothing about the mails: it is treated as a transport error,
and the same bytes are sent again. The same goes for anything that is not from Resend, such as a
proxy's or firewall's page, or an empty body.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum, auto
from typing import NamedTuple


class ErrorCategory(Enum):
    """The cause of an error, which determines how it is handled."""

    RATE_LIMIT = auto()
    """Nothing was accepted; the account's calls pause."""
    ACCOUNT = auto()
    """Nothing was accepted, nor will anything of this account be until an operator acts."""
    SENDER = auto()
    """Like ACCOUNT, but only for mails from the sender's domain."""
    CONTENT = auto()
    """Nothing was accepted, because of the batch's content."""
    CONFLICT = auto()
    """Resend knows the idempotency key with a different payload."""
    BUSY = auto()
    """Resend is still processing the same request: retry after a wait."""
    UNAVAILABLE = auto()
    """The batch may have been accepted or not: retry. Every call may be affected."""


@dataclass(frozen=True, slots=True)
class ResponseRule:
    """Matches responses that have the same meaning.

    Attributes:
        names: the error names; empty matches any name and unnamed errors.
        words: a case-insensitive pattern that the message must contain; None matches any.
        example: a message as sent by Resend.
        reason: the reason to report; empty uses the error's name, or `http_` and the status.
        from_anyone: whether responses that are not from Resend match too.
        of_template: whether the error affects every mail that uses the template.
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
        """Whether a response matches this rule."""
        return (
            status in self.statuses
            and (is_from_resend or self.from_anyone)
            and (not self.names or name in self.names)
            and (self.words is None or self.words.search(message) is not None)
        )


REFUSALS = range(400, 500)
FAILURES = range(500, 600)

# An error about a single mail names or quotes one of its fields first, whatever follows. This
# prefix keeps patterns of account and sender errors from matching such messages.
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
        from_anyone=True,  # it has no name and may lack `statusCode` too
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
    ),  # documented for other endpoints
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
"""The error names used in the rules."""


def find_rule(status: int, name: str, message: str, is_from_resend: bool) -> ResponseRule:
    """Return the first rule that matches a response.

    Args:
        name: the error's name, empty if it has none.
        message: the error's message; the beginning of the body if it is not from Resend.
        is_from_resend: whether the body is an error in the format of Resend's API.
    """
    return next(
        (row for row in RULES if row.matches(status, name, message, is_from_resend)), RULES[-1]
    )


class ErrorPattern(NamedTuple):
    """An account or sender error that is recognized by its message alone."""

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
    """Return the account or sender error in the message of one mail's error, if it is one.

    The error of a mail within a batch has neither a status nor a name. None means that it is
    about the mail itself.
    """
    return next((each for each in _ERROR_PATTERNS if each.words.search(message)), None)


_NOT_OF_CONTENT = frozenset({402, 405, 407, 408, 421, 423, 425})


def may_be_content(row: ResponseRule, status: int, is_from_resend: bool) -> bool:
    """Whether an unknown error may be a rejection of a mail's content.

    If so, Resend certainly rejected the request and accepted nothing. Excludes statuses which
    say that Resend did not read the request or may still be reading it.
    """
    return (
        row.category is ErrorCategory.UNAVAILABLE
        and is_from_resend
        and status in REFUSALS
        and status not in _NOT_OF_CONTENT
    )
