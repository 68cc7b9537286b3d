"""Each way a record can end has one name, the same in code, outcomes, metrics and documents."""

from enum import StrEnum


class Status(StrEnum):
    """What became of a recipient."""

    SENT = "sent"
    SKIPPED = "skipped"
    FAILED = "failed"
    INDETERMINATE = "indeterminate"


class Reason(StrEnum):
    """Why an outcome is not `sent`."""

    SUPPRESSED = "suppressed"
    DUPLICATE = "duplicate"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    INVALID_ADDRESS = "invalid_address"
    RENDER_ERROR = "render_error"
    REJECTED = "rejected"
    TOO_LARGE = "too_large"
    WINDOW_CLOSED = "window_closed"
    IDEMPOTENCY_CONFLICT = "idempotency_conflict"
    PROVIDER_ERROR = "provider_error"
    LEDGER_LOST = "ledger_lost"

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
    INVALID_EVENT = "invalid_event"
    UNKNOWN_CAMPAIGN = "unknown_campaign"
