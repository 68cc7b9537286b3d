"""The counts of a campaign and values derived from them. Pure.

Every input record that names the campaign counts as *received*, including duplicates, repeated
files, replays and future dead letters, but not the return of a parked record. Each gets exactly
one result, an outcome or a dead letter. Records that are received, without a result and not parked
are in flight.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from streamer.model.reasons import Status

RECEIVED, PARKED, DEAD = "received", "parked", "dead"
FIRST, LAST = "first", "last"

_SEPARATOR = ":"


def ended_word(status: str, reason: str | None) -> str:
    """Return the field that counts this result, such as `skipped:suppressed` or `sent:`."""
    return f"{status}{_SEPARATOR}{reason or ''}"


@dataclass(frozen=True, slots=True)
class Counts:
    """A campaign's counts.

    Attributes:
        received: number of input records.
        parked: number of records that are parked.
        resolutions: number of results by (status, reason). Dead letters have the status `dead`, and
            `sent` has the reason ''.
        first: earliest `occurred_at` of an outcome.
        last: latest `occurred_at` of an outcome.
    """

    received: int = 0
    parked: int = 0
    resolutions: Mapping[tuple[str, str], int] = field(default_factory=dict)
    first: str | None = None
    last: str | None = None

    def ended(self, status: str) -> int:
        """Return the number of results with this status."""
        return sum(count for (word, _), count in self.resolutions.items() if word == status)

    @property
    def outcomes(self) -> int:
        """Number of outcomes."""
        return sum(self.ended(status) for status in Status)

    @property
    def in_flight(self) -> int:
        """Number of records in flight; negative while results are read ahead of inputs."""
        return self.received - self.outcomes - self.ended(DEAD) - self.parked

    @property
    def reasons(self) -> dict[str, int]:
        """Number of results by reason."""
        found: dict[str, int] = {}
        for (_, reason), count in sorted(self.resolutions.items()):
            if reason and count:
                found[reason] = found.get(reason, 0) + count
        return found

    @property
    def seconds(self) -> float:
        """Seconds from the first to the last outcome."""
        if self.first is None or self.last is None:
            return 0.0
        between = datetime.fromisoformat(self.last) - datetime.fromisoformat(self.first)
        return between.total_seconds()

    @property
    def per_second(self) -> float | None:
        """Average outcomes per second; None if first and last are simultaneous."""
        seconds = self.seconds
        return round(self.outcomes / seconds, 3) if seconds > 0 else None

    def fulfils(self, expected: int | None) -> bool:
        """Whether at least as many were received as expected, and all have a result."""
        return (
            expected is not None
            and self.received >= expected
            and self.in_flight == 0
            and self.parked == 0
        )


def read_counts(fields: Mapping[str, str]) -> Counts:
    """Read the counts from a campaign's hash, ignoring other fields."""
    resolutions: dict[tuple[str, str], int] = {}
    for word in (*Status, DEAD):
        prefix = word + _SEPARATOR
        for name, value in fields.items():
            if name.startswith(prefix):
                resolutions[str(word), name.removeprefix(prefix)] = int(value)
    return Counts(
        received=int(fields.get(RECEIVED, 0)),
        # The return of a record may be read before its parking.
        parked=max(0, int(fields.get(PARKED, 0))),
        resolutions=resolutions,
        first=fields.get(FIRST),
        last=fields.get(LAST),
    )
