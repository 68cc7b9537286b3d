"""What came of a batch, mail by mail."""

from dataclasses import dataclass, field
from typing import NamedTuple

from streamer.model.reasons import Reason, Status
from streamer.model.record import Outcome


class ItemResult(NamedTuple):
    """What came of one mail of a batch: `sent` with Resend's id, or a reason with its detail."""

    word: str
    text: str | None

    @classmethod
    def sent(cls, email_id: str) -> "ItemResult":
        """Resend took it, under this id."""
        return cls(Status.SENT.value, email_id)

    @classmethod
    def of(cls, reason: Reason, detail: str | None = None) -> "ItemResult":
        """It was not sent, or nobody knows."""
        return cls(reason.value, detail)


@dataclass(frozen=True, slots=True)
class BatchResult:
    """What came of a batch, once and for all; one item for each of its mails.

    Attributes:
        attempts: the calls that it took whoever stored the result.
    """

    attempts: int
    items: list[ItemResult]

    def outcomes(self, batch_id: str) -> list[Outcome]:
        """The outcomes of the records whose mails the items were."""
        attempts = self.attempts
        sent = Status.SENT
        return [
            Outcome(sent, None, None, text, batch_id, attempts)
            if word == sent
            else _failed(Reason(word), text, batch_id, attempts)
            for word, text in self.items
        ]


@dataclass(slots=True)
class Learned:
    """What is known for certain of a batch that was refused as a whole and is sent in halves.

    Attributes:
        refused: the suffixes of the idempotency keys that were refused for their content: what
            they stood for is sent in halves, and never under that key again. The batch's own
            key has the empty suffix.
        parts: by the suffix, what came of a half whose fate is known.
        attempts: the calls that were made for it.
        unsure: the suffixes of the halves' keys of which a call may have been accepted. Each is
            among them from before its first call on.
    """

    refused: set[str] = field(default_factory=set)
    parts: dict[str, list[ItemResult]] = field(default_factory=dict)
    attempts: int = 0
    unsure: set[str] = field(default_factory=set)


def _failed(reason: Reason, detail: str | None, batch_id: str, attempts: int) -> Outcome:
    return Outcome(reason.status, reason, detail, None, batch_id, attempts)
