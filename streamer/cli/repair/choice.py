"""Which recipients of a campaign may be tried again."""

from dataclasses import dataclass
from datetime import datetime

from streamer.model.outcome import ReportedOutcome, same_address
from streamer.model.reasons import Reason, Status
from streamer.model.record import Coordinates


@dataclass(slots=True)
class _Fate:
    """What is known of one address."""

    last: ReportedOutcome | None = None
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

    def nominate(self, outcome: ReportedOutcome) -> None:
        """First: take the address of every outcome that might be chosen."""
        if self._fits(outcome):
            self._fates.setdefault(same_address(outcome.email), _Fate())

    def weigh(self, outcome: ReportedOutcome) -> None:
        """Then: see what else is known of these addresses."""
        fate = self._fates.get(same_address(outcome.email))
        if fate is None or outcome.reason is Reason.DUPLICATE:
            return
        fate.is_sent = fate.is_sent or outcome.status is Status.SENT
        if fate.last is None or _age(outcome) > _age(fate.last):
            fate.last = outcome

    def chosen(self) -> list[ReportedOutcome]:
        """The outcomes to be bettered, one of an address at most."""
        return [
            fate.last
            for fate in self._fates.values()
            if fate.last is not None and not fate.is_sent and self._fits(fate.last)
        ]

    def _fits(self, outcome: ReportedOutcome) -> bool:
        return (
            outcome.status is self._status
            and outcome.status is not Status.SENT
            and (not self._reasons or outcome.reason in self._reasons)
        )


def _age(outcome: ReportedOutcome) -> tuple[datetime, Coordinates]:
    # The coordinates decide where the clock cannot, so that each run chooses alike.
    return outcome.occurred_at, outcome.coordinates
