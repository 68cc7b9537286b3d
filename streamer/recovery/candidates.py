"""Selecting the recipients of a campaign to retry."""

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from streamer.model.outcome import Names, same_address
from streamer.model.published import PublishedOutcome
from streamer.model.reasons import Reason, Status
from streamer.model.record import RecordId
from streamer.recovery.copies import FoundCopy
from streamer.recovery.prefilter import ValueTest, may_have_words


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

    def is_named_by(self, names: Names) -> bool:
        """Whether a record with these names is of this recipient.

        Coordinates alone do not say that: in a topic that was created anew they are reused.
        """
        return (
            names.recipient_id == self.recipient_id
            and names.email is not None
            and same_address(names.email) == same_address(self.email)
        )


@dataclass(slots=True)
class _AddressState:
    """The outcomes of one address, without duplicates, and the records that have any outcome."""

    outcomes: list[Candidate] = field(default_factory=list)
    ended: set[RecordId] = field(default_factory=set)
    is_sent: bool = False


@dataclass(slots=True)
class Selection:
    """What to retry.

    Attributes:
        due: the outcomes to retry, at most one per address.
        already: number of addresses whose retry has no outcome yet.
        unsure: number of addresses that may have their mail, since an earlier outcome is
            `indeterminate`.
        uncertain: number of those due of which the same is true.
    """

    due: list[Candidate] = field(default_factory=list)
    already: int = 0
    unsure: int = 0
    uncertain: int = 0


class RetrySelector:
    """Selects outcomes to retry in two passes over a campaign: `add_candidate`, then `update`.

    Only the last outcome of an address counts. `duplicate` outcomes are ignored, because the
    outcome of the record that has the address counts instead. An address that was ever `sent` is
    never retried, unless Resend says that this mail failed later. Which outcome is the last is told
    by which record retries which, where that is known, since clocks may differ.

    Args:
        status: the required status of the last outcome.
        reasons: its allowed reasons; empty allows any.
        may_mail_twice: include addresses that were ever `indeterminate`.
        failed_later: Resend's ids of mails that failed after they were accepted. With the status
            `sent`, these outcomes are selected; an address that has another mail is not.
    """

    def __init__(
        self,
        status: Status,
        reasons: frozenset[Reason],
        *,
        may_mail_twice: bool = False,
        failed_later: Set[str] = frozenset(),
    ) -> None:
        self._status = status
        self._failed_later = failed_later
        self._reasons = reasons
        self._may_mail_twice = may_mail_twice
        self._states: dict[str, _AddressState] = {}

    def add_candidate(self, outcome: PublishedOutcome) -> None:
        """First pass: collect the addresses of matching outcomes."""
        if self._fits(outcome.status, outcome.reason) and not self._has_mail(outcome):
            self._states.setdefault(same_address(outcome.email), _AddressState())

    @property
    def prefilter(self) -> ValueTest:
        """A test of a value that leaves out only what `add_candidate` would ignore."""
        return may_have_words(self._reasons or {self._status})

    @property
    def addresses(self) -> Set[str]:
        """The addresses found in the first pass: `update` ignores the outcomes of others."""
        return self._states.keys()

    @property
    def is_empty(self) -> bool:
        """Whether there are no candidates."""
        return not self._states

    def update(self, outcome: PublishedOutcome) -> None:
        """Second pass: take every outcome of these addresses into account."""
        state = self._states.get(same_address(outcome.email))
        if state is None:
            return
        state.ended.add(outcome.record_id)
        if outcome.reason is Reason.DUPLICATE:
            return
        state.is_sent = state.is_sent or self._has_mail(outcome)
        state.outcomes.append(
            Candidate(
                outcome.occurred_at,
                outcome.record_id,
                outcome.recipient_id,
                outcome.email,
                outcome.status,
                outcome.reason,
                outcome.batch_id,
            )
        )

    def records(self) -> set[RecordId]:
        """Return the records that `select` needs the copies of."""
        return {
            outcome.record_id
            for state in self._states.values()
            if not state.is_sent
            for outcome in state.outcomes
        }

    def select(self, made: Mapping[RecordId, list[FoundCopy]]) -> Selection:
        """Return what to retry.

        Args:
            made: the records that retry others, by the record they retry.
        """
        selection = Selection()
        for state in self._states.values():
            if state.outcomes and not state.is_sent:
                self._add(selection, state, made)
        return selection

    def _add(
        self,
        selection: Selection,
        state: _AddressState,
        made: Mapping[RecordId, list[FoundCopy]],
    ) -> None:
        retries = {
            outcome.record_id: [
                copy.record_id
                for copy in made.get(outcome.record_id, ())
                if outcome.is_named_by(copy.names)
            ]
            for outcome in state.outcomes
        }
        heads = [outcome for outcome in state.outcomes if not retries[outcome.record_id]]
        # Offsets break ties between equal times, so that every run selects the same.
        last = max(heads or state.outcomes, key=_order)
        if not self._fits(last.status, last.reason):
            return
        if not heads or any(not state.ended.issuperset(copies) for copies in retries.values()):
            selection.already += 1
            return
        is_uncertain = any(each.status is Status.INDETERMINATE for each in state.outcomes)
        if is_uncertain and not self._may_mail_twice:
            selection.unsure += 1
        else:
            selection.uncertain += is_uncertain
            batch = _last_batch(last, state.outcomes, retries)
            selection.due.append(last._replace(batch_id=batch))

    def _has_mail(self, outcome: PublishedOutcome) -> bool:
        return outcome.status is Status.SENT and outcome.email_id not in self._failed_later

    def _fits(self, status: Status, reason: Reason | None) -> bool:
        return status is self._status and (not self._reasons or reason in self._reasons)


def _order(outcome: Candidate) -> tuple[datetime, RecordId]:
    return outcome.occurred_at, outcome.record_id


def _last_batch(
    last: Candidate,
    outcomes: Iterable[Candidate],
    retries: Mapping[RecordId, Iterable[RecordId]],
) -> str | None:
    """Return the batch that claims the address: the record's own, or of a record it retries."""
    pinned = [outcome for outcome in outcomes if outcome.batch_id is not None]
    retried = {copy: source for source, copies in retries.items() for copy in copies}
    at: RecordId | None = last.record_id
    seen: set[RecordId] = set()
    while at is not None and at not in seen:
        seen.add(at)
        for outcome in pinned:
            if outcome.record_id == at:
                return outcome.batch_id
        at = retried.get(at)
    return max(pinned, key=_order).batch_id if pinned else None
