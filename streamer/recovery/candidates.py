"""Selecting the recipients of a campaign to retry."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from streamer.model.outcome import same_address
from streamer.model.published import PublishedOutcome
from streamer.model.reasons import Reason, Status
from streamer.model.record import RecordId


class Candidate(NamedTuple):
    """The parts of an outcome that are kept in memory; a campaign may have very many."""

    occurred_at: datetime
    record_id: RecordId
    recipient_id: str
    email: str
    status: Status
    reason: Reason | None
    batch_id: str | None
    """The last batch that carried the address; a retry takes over its claim."""


@dataclass(slots=True)
class _AddressState:
    """The state of one address."""

    last: Candidate | None = None
    batches: list[tuple[datetime, RecordId, str]] = field(default_factory=list)
    is_sent: bool = False


class RetrySelector:
    """Selects outcomes to retry in two passes over a campaign: `add_candidate`, then `update`.

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
        self._states: dict[str, _AddressState] = {}

    def add_candidate(self, outcome: PublishedOutcome) -> None:
        """First pass: collect the addresses of matching outcomes."""
        if self._fits(outcome.status, outcome.reason):
            self._states.setdefault(same_address(outcome.email), _AddressState())

    @property
    def is_empty(self) -> bool:
        """Whether there are no candidates."""
        return not self._states

    def update(self, outcome: PublishedOutcome) -> None:
        """Second pass: take every outcome of these addresses into account."""
        state = self._states.get(same_address(outcome.email))
        if state is None or outcome.reason is Reason.DUPLICATE:
            return
        state.is_sent = state.is_sent or outcome.status is Status.SENT
        # Offsets break ties between equal times, so that every run selects the same.
        if state.last is None or (outcome.occurred_at, outcome.record_id) > state.last[:2]:
            state.last = Candidate(
                outcome.occurred_at,
                outcome.record_id,
                outcome.recipient_id,
                outcome.email,
                outcome.status,
                outcome.reason,
                None,
            )
        if outcome.batch_id is not None:
            state.batches.append((outcome.occurred_at, outcome.record_id, outcome.batch_id))

    def selected(self) -> list[Candidate]:
        """Return the outcomes to retry, at most one per address."""
        return [
            fate.last._replace(batch_id=max(fate.batches)[2] if fate.batches else None)
            for fate in self._states.values()
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
