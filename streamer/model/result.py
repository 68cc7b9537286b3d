"""What came of a batch, mail by mail."""

from dataclasses import dataclass
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


def _failed(reason: Reason, detail: str | None, batch_id: str, attempts: int) -> Outcome:
    return Outcome(reason.status, reason, detail, None, batch_id, attempts)
