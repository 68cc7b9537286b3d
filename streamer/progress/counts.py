"""What is counted of a campaign, and what follows from it. Pure.

Each input record that names the campaign is *received*: duplicates, repeats of a file, replays
and records that end as dead letters too, but not the return of a record that was parked. Each
ends once, by an outcome or as a dead letter. What was received, has not ended and is not parked
is in flight.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from streamer.model.reasons import Status

RECEIVED, PARKED, DEAD = "received", "parked", "dead"
FIRST, LAST = "first", "last"

_SEPARATOR = ":"


def ended_word(status: str, reason: str | None) -> str:
    """The name under which an ending is counted: `skipped:suppressed`, or `sent:`."""
    return f"{status}{_SEPARATOR}{reason or ''}"


@dataclass(frozen=True, slots=True)
class Counts:
    """A campaign's counts.

    Attributes:
        endings: by (status, reason); the status of a dead letter is `dead`, and `sent` has the
            reason ''.
        first: when the first outcome was decided, as the outcome says it.
        last: when the last one was.
    """

    received: int = 0
    parked: int = 0
    endings: Mapping[tuple[str, str], int] = field(default_factory=dict)
    first: str | None = None
    last: str | None = None

    def ended(self, status: str) -> int:
        """How many ended so."""
        return sum(count for (word, _), count in self.endings.items() if word == status)

    @property
    def outcomes(self) -> int:
        """How many have an outcome."""
        return sum(self.ended(status) for status in Status)

    @property
    def in_flight(self) -> int:
        """Received, not ended and not parked. Below 0 while endings are read ahead of inputs."""
        return self.received - self.outcomes - self.ended(DEAD) - self.parked

    @property
    def reasons(self) -> dict[str, int]:
        """How many ended for each reason."""
        found: dict[str, int] = {}
        for (_, reason), count in sorted(self.endings.items()):
            if reason and count:
                found[reason] = found.get(reason, 0) + count
        return found

    @property
    def seconds(self) -> float:
        """From the first outcome to the last."""
        if self.first is None or self.last is None:
            return 0.0
        between = datetime.fromisoformat(self.last) - datetime.fromisoformat(self.first)
        return between.total_seconds()

    @property
    def per_second(self) -> float | None:
        """Outcomes a second, from the first to the last; None if that took no time."""
        seconds = self.seconds
        return round(self.outcomes / seconds, 3) if seconds > 0 else None

    def fulfils(self, expected: int | None) -> bool:
        """Whether as many were received as expected, or more, and all of them have ended."""
        return (
            expected is not None
            and self.received >= expected
            and self.in_flight == 0
            and self.parked == 0
        )


def read_counts(fields: Mapping[str, str]) -> Counts:
    """The counts in a campaign's hash; what else stands there is left out."""
    endings: dict[tuple[str, str], int] = {}
    for word in (*Status, DEAD):
        prefix = word + _SEPARATOR
        for name, value in fields.items():
            if name.startswith(prefix):
                endings[str(word), name.removeprefix(prefix)] = int(value)
    return Counts(
        received=int(fields.get(RECEIVED, 0)),
        # Who came back may be read before it was parked.
        parked=max(0, int(fields.get(PARKED, 0))),
        endings=endings,
        first=fields.get(FIRST),
        last=fields.get(LAST),
    )
