"""Each way a record can end has one name, the same in code, outcomes, metrics and documents.

The documents' tables take their meanings from the docstrings of the members: renew them with
`python -m tools.docs --write`.
"""

from enum import StrEnum


class Status(StrEnum):
    """What became of a recipient."""

    SENT = "sent"
    """Resend accepted the mail and gave it an id."""
    SKIPPED = "skipped"
    """Nothing was sent for this record, on purpose; the reason says why."""
    FAILED = "failed"
    """This mail cannot be sent, or Resend refused it."""
    INDETERMINATE = "indeterminate"
    """Whether Resend accepted the mail cannot be known; it is not sent again."""


class Reason(StrEnum):
    """Why an outcome is not `sent`."""

    SUPPRESSED = "suppressed"
    """The address is in the suppression set of the organization."""
    DUPLICATE = "duplicate"
    """Another record of this campaign has this address already."""
    CANCELLED = "cancelled"
    """The campaign was cancelled before the mail was pinned."""
    EXPIRED = "expired"
    """`expires_at` of the event or of the campaign has passed."""
    INVALID_ADDRESS = "invalid_address"
    """Not an address that a mail can be sent to; `detail` says why."""
    RENDER_ERROR = "render_error"
    """The mail cannot be made: a template failed for this recipient, or the `from` of its event
    has no usable domain; `detail` says why, and names what is undefined."""
    REJECTED = "rejected"
    """Resend refused this mail; `detail` has its words."""
    TOO_LARGE = "too_large"
    """The mail is larger than `mail.max_bytes`."""
    WINDOW_CLOSED = "window_closed"
    """Still unknown when `delivery.safe_window_s` had passed since the pin."""
    IDEMPOTENCY_CONFLICT = "idempotency_conflict"
    """Resend has another payload under this batch's key."""
    PROVIDER_ERROR = "provider_error"
    """This batch alone kept failing while others of its account went through, or Resend's
    answers to it could not be understood."""
    LEDGER_LOST = "ledger_lost"
    """The address is claimed, but its batch is not in Redis."""

    @property
    def status(self) -> Status:
        """The status that this reason belongs to."""
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
    """Why an input record names no campaign that we can act on."""

    UNDECODABLE = "undecodable"
    """Empty, not UTF-8 or not JSON; or the name of a header is not UTF-8."""
    INVALID_EVENT = "invalid_event"
    """Not an object, a required field is missing, or a known field is malformed."""
    UNKNOWN_CAMPAIGN = "unknown_campaign"
    """The event has no `message`, and the campaign has no definition that can be read."""
