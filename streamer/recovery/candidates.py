"""Which recipients of a campaign may be tried again."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from streamer.model.outcome import same_address
from streamer.model.published import PublishedOutcome
from streamer.model.reasons import Reason, Status
from streamer.model.record import Coordinates


class Candidate(NamedTuple):
    """What is kept of an outcome: a campaign may have very many."""

    occurred_at: datetime
    coordinates: Coordinates
    recipient_id: str
    email: str
    status: Status
    reason: Reason | None
    batch_id: str | None
    """The last batch that carried the address: whoever retries takes over its claim."""


@dataclass(slots=True)
class _Fate:
    """What is known of one address."""

    last: Candidate | None = None
    batches: list[tuple[datetime, Coordinates, str]] = field(default_factory=list)
    is_sent: bool = False


class Choice:
    """Chooses from a campaign's outcomes, which it sees twice: to nominate, then to weigh.

    Of an address only the last outcome counts. A `duplicate` is none: it says that another
    record has the address, and that one's outcome tells. Once sent, never again.

    Args:
        status: that the last outcome must have.
        reasons: one of which it must have; empty: any.
    """

    def __init__(self, status: Status, reasons: frozenset[Reason]) -> None:
        self._status = status
        self._reasons = reasons
        self._fates: dict[str, _Fate] = {}

    def nominate(self, outcome: PublishedOutcome) -> None:
        """First: take the address of every outcome that might be chosen."""
        if self._fits(outcome.status, outcome.reason):
            self._fates.setdefault(same_address(outcome.email), _Fate())

    @property
    def is_empty(self) -> bool:
        """Whether nobody was nominated."""
        return not self._fates

    def weigh(self, outcome: PublishedOutcome) -> None:
        """Then: see what else is known of these addresses."""
        fate = self._fates.get(same_address(outcome.email))
        if fate is None or outcome.reason is Reason.DUPLICATE:
            return
        fate.is_sent = fate.is_sent or outcome.status is Status.SENT
        # Where the clock cannot tell, the coordinates do, so that each run chooses alike.
        if fate.last is None or (outcome.occurred_at, outcome.coordinates) > fate.last[:2]:
            fate.last = Candidate(
                outcome.occurred_at,
                outcome.coordinates,
                outcome.recipient_id,
                outcome.email,
                outcome.status,
                outcome.reason,
                None,
            )
        if outcome.batch_id is not None:
            fate.batches.append((outcome.occurred_at, outcome.coordinates, outcome.batch_id))

    def chosen(self) -> list[Candidate]:
        """The outcomes to be bettered, one of an address at most."""
        return [
            fate.last._replace(batch_id=max(fate.batches)[2] if fate.batches else None)
            for fate in self._fates.values()
            if fate.last is not None
            and not fate.is_sent
            and self._fits(fate.last.status, fate.last.reason)
        ]

    def _fits(self, status: Status, reason: Reason | None) -> bool:
        return (
            status is self._status
            and status is not Status.SENT
            and (not self._reasons or reason in self._reasons)
        )
