"""What a provider's response means for the batch, independent of the provider."""

from dataclasses import dataclass

from streamer.model.result import ItemResult


@dataclass(frozen=True, slots=True)
class Accepted:
    """The batch was accepted; `items` has one result per mail, including rejected ones."""

    items: list[ItemResult]


@dataclass(frozen=True, slots=True)
class Retry:
    """The batch may or may not have been accepted: send the same bytes again under the same key.

    Attributes:
        reason: the name of the error.
        retry_after_s: the delay requested by `retry-after`.
        failing: the provider itself may be failing, for every caller.
        unreadable: Resend accepted the batch, but its response cannot be parsed.
        may_be_content: Resend rejected the batch for an unknown reason, and did not say that it
            will accept it later: nothing was accepted, and the content of one of its mails may be
            the cause.
    """

    reason: str
    retry_after_s: float = 0.0
    failing: bool = False
    unreadable: bool = False
    may_be_content: bool = False


@dataclass(frozen=True, slots=True)
class RateLimited:
    """Nothing was accepted: rate limited; do not call this account for `retry_after_s` seconds."""

    retry_after_s: float


@dataclass(frozen=True, slots=True)
class Suspended:
    """Nothing was accepted, nor will be until a problem with the account is fixed.

    Attributes:
        reason: the name of the problem: a quota, a rejected key, a wrong URL, a certificate.
        detail: Resend's message.
        sender_only: only the sender's domain is affected.
        is_key_used: the problem was reported in a success response, which Resend replays for this
            idempotency key as long as it keeps the key, even after the problem is fixed.
    """

    reason: str
    detail: str
    sender_only: bool = False
    is_key_used: bool = False


@dataclass(frozen=True, slots=True)
class Rejected:
    """Nothing in the batch was accepted, because of its content.

    Attributes:
        of_template: every mail that uses the template is rejected for the same reason.
    """

    detail: str
    of_template: bool = False


@dataclass(frozen=True, slots=True)
class Conflicting:
    """Resend has a different payload under this key; what it did with that one is unknown."""

    detail: str


Disposition = Accepted | Retry | RateLimited | Suspended | Rejected | Conflicting
