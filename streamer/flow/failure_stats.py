"""Is it the provider, or is it the batch? Pure; what is judged are counts and times.

When every call fails it is an outage: nothing is given up, one call at a time tests whether it
is over. When one batch fails while others of its account go through, it is that batch.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

OUTAGE_FAILURES = 5
"""Calls of an account in a row, of all workers, that must fail before its circuit opens."""
_FIRST_PAUSE_S = 0.5
_MAX_PAUSE_S = 5.0
_MIN_OTHERS_ACCEPTED = 3
_DOUBT_FACTOR = 3
_CERTAIN_S = 2.0

BACKPRESSURE_RECORDS = 25_000
"""Records behind batches that keep failing at which one that fails alone goes aside at once."""

OUTAGE = "outage"
"""The reason of a hold for an account whose every call fails, where other accounts do not."""
OUTAGE_PATIENCE_S = 1.0
"""After so long an outage holds its account, where there are others that it could hold up."""
OUTAGE_PROBE_S = 5.0
"""How often such a hold is tested, if holds are not tested oftener anyway."""


MAX_PAUSE_S = 30.0
"""The longest that an account's calls pause after one that was throttled; more is a hold."""


def circuit_pause_s(failures: int) -> float:
    """Seconds between calls of an account that failed so often in a row; 0: no restriction."""
    if failures < OUTAGE_FAILURES:
        return 0.0
    return min(_MAX_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** min(failures - OUTAGE_FAILURES, 64))


@dataclass(frozen=True, slots=True)
class AccountHealth:
    """How an account's calls go, by all workers.

    Attributes:
        failures: in a row.
        successes: ever.
        failing_s: since the first of the failures.
        others_failing: further batches that failed since a call succeeded last.
    """

    failures: int
    successes: int
    failing_s: float
    others_failing: int


@dataclass(frozen=True, slots=True)
class FailureStats:
    """What is known of a batch that keeps failing.

    Attributes:
        lasting_s: since its first failure in this delivery.
        age_s: since it was pinned.
        others_accepted: calls of the account, by any worker, that succeeded since that failure.
        others_failing: further batches of the account that failed since a call succeeded last.
    """

    lasting_s: float
    age_s: float
    others_accepted: int
    others_failing: int

    @property
    def is_isolated(self) -> bool:
        """Whether others of its account went through meanwhile."""
        return self.others_accepted >= _MIN_OTHERS_ACCEPTED

    def should_give_up(self, set_aside_s: float, give_up_s: float) -> bool:
        """Whether the batch ends as `provider_error`: it is old enough, and has failed for long
        enough again. One that waited for hours because of a hold is not given up for a moment's
        failures."""
        return self.is_isolated and self.lasting_s >= set_aside_s and self.age_s >= give_up_s

    def should_defer(self, set_aside_s: float, under_backpressure: bool = False) -> bool:
        """Whether the batch has to let others pass.

        That it is its own trouble shows if others go through, or if there is no other to tell
        by. Where several fail, and nobody knows whether others would, it lasts longer.

        Args:
            under_backpressure: whether so much waits behind it that nothing more could be taken
                soon: if others go through they must not come to a stop for it, however soon that
                    is.
        """
        if under_backpressure and self.is_isolated:
            return True
        is_isolated = self.is_isolated or self.others_failing == 0
        return self.lasting_s >= set_aside_s * (1 if is_isolated else _DOUBT_FACTOR)

    def should_park_queue(self, set_aside_s: float) -> bool:
        """Whether much of its organization that waits in the same queue has to let others pass.

        It may fail like the batch, and more of it than the batch takes each time that it is set
        aside. If others go through they are kept from that, unless the batch has failed only
        once or twice, as any may for a moment. If none does, it may be an outage, and moving
        records about would be for nothing, or there may be others that are not seen for all that
        stands before them: it is as long in doubt as a batch is.
        """
        threshold_s = (
            min(_CERTAIN_S, set_aside_s) if self.is_isolated else set_aside_s * _DOUBT_FACTOR
        )
        return self.lasting_s >= threshold_s


def next_try_s(age_s: float, set_aside_s: float, give_up_s: float) -> float:
    """Seconds until a batch that is set aside is tried again: its age, so that the distance
    doubles, but no later than when it may be given up."""
    wait = max(age_s, set_aside_s)
    return max(min(wait, give_up_s - age_s), set_aside_s)


def hold_until(reason: str, now: datetime) -> datetime | None:
    """When trouble of that name ends by itself: Resend's daily quota at 00:00 UTC."""
    if reason != "daily_quota_exceeded":
        return None
    today = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return today + timedelta(days=1)
