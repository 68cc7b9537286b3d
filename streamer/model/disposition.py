"""What a provider's answer means for the batch that it answers, whoever the provider is."""

from dataclasses import dataclass

from streamer.model.result import ItemResult


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
        may_be_content: Resend refused it for certain, for a reason that is not known, and did not
            say that it will take it later: nothing of it was taken, and it may be for what one of
            its mails holds.
    """

    why: str
    after_s: float = 0.0
    failing: bool = False
    unreadable: bool = False
    may_be_content: bool = False


@dataclass(frozen=True, slots=True)
class Throttled:
    """Nothing was taken: the account was called too fast, and must not be for `after_s`."""

    after_s: float


@dataclass(frozen=True, slots=True)
class OnHold:
    """Nothing was taken, and nothing will be for a while, for a trouble of the account's.

    Attributes:
        why: the name of the trouble: a quota, a refused key, a wrong URL, a certificate.
        detail: Resend's words.
        of_sender: it concerns the sender's domain alone.
        is_key_used: it was said in a success, which Resend repeats under that idempotency key for
            as long as it keeps it, whatever becomes of the trouble.
    """

    why: str
    detail: str
    of_sender: bool = False
    is_key_used: bool = False


@dataclass(frozen=True, slots=True)
class Refused:
    """Nothing of the batch was taken, for its content.

    Attributes:
        of_template: it is refused so for every mail that uses the template.
    """

    detail: str
    of_template: bool = False


@dataclass(frozen=True, slots=True)
class Conflicting:
    """Resend has another payload under this key: what it did with that is not known."""

    detail: str


Verdict = Taken | Again | Throttled | OnHold | Refused | Conflicting
