"""The counts of a campaign and values derived from them. Pure.

They are the sum of the campaign's progress records: see `streamer.model.progress`. An input record
is *received* once it has ended or was parked, which is once, whether it is a duplicate, a replay or
no valid event.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from streamer.model.progress import DEAD, PARKED, split_word
from streamer.model.reasons import Status

FIRST, LAST = "first", "last"
STATUSES = (*(status.value for status in Status), DEAD)


@dataclass(frozen=True, slots=True)
class Counts:
    """A campaign's counts.

    Attributes:
        parked: number of records that were parked and have not ended since.
        resolutions: number of results by (status, reason). Dead letters have the status `dead`, and
            `sent` has the reason ''.
        first: earliest `occurred_at` of an outcome.
        last: latest `occurred_at` of an outcome.
    """

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
    def received(self) -> int:
        """Number of input records that have ended or are parked."""
        return sum(self.resolutions.values()) + self.parked

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


def read_counts(fields: Mapping[str, str]) -> Counts:
    """Read the counts from a campaign's hash, ignoring other fields."""
    words = ((split_word(name), value) for name, value in fields.items())
    return Counts(
        # Negative where retention deleted that they were parked, and the counts were rebuilt.
        parked=max(0, int(fields.get(PARKED, 0))),
        resolutions={word: int(value) for word, value in words if word[0] in STATUSES},
        first=fields.get(FIRST),
        last=fields.get(LAST),
    )
