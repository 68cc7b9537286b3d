"""Distinguishes provider outages from failing batches, by counts and times. No I/O.

If every call fails, it is an outage: no batch is given up, and one call at a time tests whether it
is over. If a batch fails while others of its account succeed, the batch is the cause.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

OUTAGE_FAILURES = 5
"""Consecutive failed calls of an account, on all workers, that open its circuit."""
_FIRST_PAUSE_S = 0.5
_MAX_PAUSE_S = 5.0
_MIN_OTHERS_ACCEPTED = 3
_DOUBT_FACTOR = 3
_CERTAIN_S = 2.0

BACKPRESSURE_RECORDS = 25_000
"""Records blocked behind failing batches at which an isolated failing batch is deferred at once."""

OUTAGE = "outage"
"""The reason for holding an account whose calls all fail while other accounts' do not."""
OUTAGE_PATIENCE_S = 1.0
"""Seconds after which an outage holds its account, if it could delay other accounts."""
OUTAGE_PROBE_S = 5.0
"""Seconds between tests of such a hold, unless holds are configured to be tested more often."""


MAX_PAUSE_S = 30.0
"""The longest pause of an account's calls after a rate-limited one; a longer one becomes a hold."""


def circuit_pause_s(failures: int) -> float:
    """Return the seconds between calls after consecutive failures; 0 means no restriction."""
    if failures < OUTAGE_FAILURES:
        return 0.0
    return min(_MAX_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** min(failures - OUTAGE_FAILURES, 64))


@dataclass(frozen=True, slots=True)
class AccountHealth:
    """The results of an account's calls on all workers.

    Attributes:
        failures: consecutive failures.
        successes: total successes.
        failing_s: seconds since the first of the failures.
        others_failing: other batches that failed since the last success.
    """

    failures: int
    successes: int
    failing_s: float
    others_failing: int


@dataclass(frozen=True, slots=True)
class FailureStats:
    """The state of a batch that keeps failing.

    Attributes:
        lasting_s: seconds since its first failure in this delivery.
        age_s: seconds since it was pinned.
        others_accepted: the account's calls, on any worker, that succeeded since that failure.
        others_failing: other batches of the account that failed since its last success.
    """

    lasting_s: float
    age_s: float
    others_accepted: int
    others_failing: int

    @property
    def is_isolated(self) -> bool:
        """Whether enough other calls of its account have succeeded since its first failure."""
        return self.others_accepted >= _MIN_OTHERS_ACCEPTED

    def should_give_up(self, set_aside_s: float, give_up_s: float) -> bool:
        """Return whether to resolve the batch as `provider_error`.

        It must be old enough and also have failed for long enough in this delivery: a batch that
        waited for hours because of a hold is not given up after a brief failure.
        """
        return self.is_isolated and self.lasting_s >= set_aside_s and self.age_s >= give_up_s

    def should_defer(self, set_aside_s: float, under_backpressure: bool = False) -> bool:
        """Return whether to defer the batch so that others can pass.

        The batch is considered the cause if others succeed, or if no other fails. If several fail
        and it is unknown whether others would succeed, the threshold is higher.

        Args:
            under_backpressure: whether so many records are blocked behind it that the worker will
                soon be full. If others succeed, the batch is then deferred immediately, so that it
                does not stop them.
        """
        if under_backpressure and self.is_isolated:
            return True
        is_isolated = self.is_isolated or self.others_failing == 0
        return self.lasting_s >= set_aside_s * (1 if is_isolated else _DOUBT_FACTOR)

    def should_park_queue(self, set_aside_s: float) -> bool:
        """Return whether to park the organization's queued records so that others can pass.

        They may fail like the batch, and deferring a batch at a time removes only part of them. If
        other batches succeed, they are protected from this soon, but not after only one or two
        failures, which may be momentary. If none succeeds, it may be an outage, where parking would
        be useless, or others may be blocked behind these records: the threshold is the same as for
        a batch in doubt.
        """
        threshold_s = (
            min(_CERTAIN_S, set_aside_s) if self.is_isolated else set_aside_s * _DOUBT_FACTOR
        )
        return self.lasting_s >= threshold_s


def next_try_s(age_s: float, set_aside_s: float, give_up_s: float) -> float:
    """Return the seconds until a deferred batch is tried again.

    The wait equals its age, so that the intervals double, but ends no later than when the batch may
    be given up.
    """
    wait = max(age_s, set_aside_s)
    return max(min(wait, give_up_s - age_s), set_aside_s)


def hold_until(reason: str, now: datetime) -> datetime | None:
    """Return when a problem ends by itself: Resend's daily quota resets at 00:00 UTC."""
    if reason != "daily_quota_exceeded":
        return None
    today = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return today + timedelta(days=1)
