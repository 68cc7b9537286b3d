"""Statuses and reasons: one name for each, in code, outcomes, metrics and docs.

The tables in the docs are generated from the docstrings of the members: update them with
`python -m tools.docs --write`.
"""

from enum import StrEnum


class Status(StrEnum):
    """The result for a recipient."""

    SENT = "sent"
    """Resend accepted the mail and gave it an id."""
    SKIPPED = "skipped"
    """Nothing was sent for this record, on purpose; see the reason."""
    FAILED = "failed"
    """The mail cannot be sent, or Resend rejected it."""
    INDETERMINATE = "indeterminate"
    """Resend may or may not have accepted the mail; it is not sent again."""


class Reason(StrEnum):
    """Why an outcome is not `sent`."""

    SUPPRESSED = "suppressed"
    """The address is in the suppression set of the organization."""
    DUPLICATE = "duplicate"
    """Another record of this campaign already claimed this address."""
    CANCELLED = "cancelled"
    """The campaign was cancelled before the mail was pinned."""
    EXPIRED = "expired"
    """`expires_at` of the event or the campaign has passed."""
    INVALID_ADDRESS = "invalid_address"
    """The address is not deliverable; `detail` says why."""
    RENDER_ERROR = "render_error"
    """The mail cannot be rendered: a template failed for this recipient, or the event's `from` has
    no usable domain; `detail` says why and names an undefined variable."""
    REJECTED = "rejected"
    """Resend rejected this mail; `detail` has its message."""
    TOO_LARGE = "too_large"
    """The mail is larger than `mail.max_bytes`."""
    WINDOW_CLOSED = "window_closed"
    """The result was still unknown `delivery.safe_window_s` after the pin."""
    IDEMPOTENCY_CONFLICT = "idempotency_conflict"
    """Resend has a different payload under this batch's idempotency key."""
    PROVIDER_ERROR = "provider_error"
    """Only this batch kept failing while others of its account succeeded, or Resend's responses
    to it could not be parsed."""
    LEDGER_LOST = "ledger_lost"
    """The address is claimed, but its batch is missing from Redis; or the record was in flight when
    the ledger lost writes, and was rebuilt."""

    @property
    def status(self) -> Status:
        """The status to which this reason belongs."""
        return _STATUS[self]


_STATUS = {
    **dict.fromkeys(
        (Reason.SUPPRESSED, Reason.DUPLICATE, Reason.CANCELLED, Reason.EXPIRED), Status.SKIPPED
    ),
    **dict.fromkeys(
        (Reason.INVALID_ADDRESS, Reason.RENDER_ERROR, Reason.REJECTED, Reason.TOO_LARGE),
        Status.FAILED,
    ),
    **dict.fromkeys(
        (
            Reason.WINDOW_CLOSED,
            Reason.IDEMPOTENCY_CONFLICT,
            Reason.PROVIDER_ERROR,
            Reason.LEDGER_LOST,
        ),
        Status.INDETERMINATE,
    ),
}


class DeadReason(StrEnum):
    """Why an input record became a dead letter."""

    UNDECODABLE = "undecodable"
    """The value is empty, not UTF-8 or not JSON, or a header name is not UTF-8."""
    INVALID_EVENT = "invalid_event"
    """The value is not an object, lacks a required field, or has a malformed known field."""
    UNKNOWN_CAMPAIGN = "unknown_campaign"
    """The event has no `message`, and the campaign has no readable definition."""
