"""Selecting the recipients of a campaign to retry."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from streamer.model.outcome import same_address
from streamer.model.published import PublishedOutcome
from streamer.model.reasons import Reason, Status
from streamer.model.record import Coordinates


class Candidate(NamedTuple):
    """The parts of an outcome that are kept in memory; a campaign may have very many."""

    occurred_at: datetime
    coordinates: Coordinates
    recipient_id: str
    email: str
    status: Status
    reason: Reason | None
    batch_id: str | None
    """The last batch that carried the address; a retry takes over its claim."""


@dataclass(slots=True)
class _Fate:
    """The state of one address."""

    last: Candidate | None = None
    batches: list[tuple[datetime, Coordinates, str]] = field(default_factory=list)
    is_sent: bool = False


class Choice:
    """Selects outcomes to retry in two passes over a campaign: `nominate`, then `weigh`.

    Only the last outcome of an address counts. `duplicate` outcomes are ignored, because the
    outcome of the record that has the address counts instead. An address that was ever `sent` is
    never retried.

    Args:
        status: the required status of the last outcome.
        reasons: its allowed reasons; empty allows any.
    """

    def __init__(self, status: Status, reasons: frozenset[Reason]) -> None:
        self._status = status
        self._reasons = reasons
        self._fates: dict[str, _Fate] = {}

    def nominate(self, outcome: PublishedOutcome) -> None:
        """First pass: collect the addresses of matching outcomes."""
        if self._fits(outcome.status, outcome.reason):
            self._fates.setdefault(same_address(outcome.email), _Fate())

    @property
    def is_empty(self) -> bool:
        """Whether there are no candidates."""
        return not self._fates

    def weigh(self, outcome: PublishedOutcome) -> None:
        """Second pass: take every outcome of these addresses into account."""
        fate = self._fates.get(same_address(outcome.email))
        if fate is None or outcome.reason is Reason.DUPLICATE:
            return
        fate.is_sent = fate.is_sent or outcome.status is Status.SENT
        # Offsets break ties between equal times, so that every run selects the same.
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
        """Return the outcomes to retry, at most one per address."""
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
