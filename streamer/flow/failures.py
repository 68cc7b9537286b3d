"""Tracks organizations whose batches keep failing, and limits their impact on others.

If only some batches of an organization fail, its other batches continue beside the stuck ones. If
all of them fail while other organizations succeed, only a few at a time (the quota) are tried, and
its other queued records are parked at once: a failing record blocks commits of every later record
in its partition (head-of-line blocking), which would soon stop all organizations.
"""

from dataclasses import dataclass, field
from threading import Lock

from streamer.flow.failure_stats import FailureStats

_SUSPICION_S = 3600.0
"""Seconds after which a suspicion expires: the organization may have nothing more to send."""


@dataclass(slots=True)
class _OrganizationFailures:
    """The failures of one organization.

    Attributes:
        failing: its currently failing batches, by id.
        has_successes: whether other batches of it were accepted since the first of these failed.
        suspected_until: until when it is assumed that all its batches fail; 0 if not suspected.
    """

    failing: dict[str, FailureStats] = field(default_factory=dict)
    has_successes: bool = False
    suspected_until: float = 0.0


class FailureTracker:
    """Tracks organizations with failing batches.

    All methods are thread-safe. Times are seconds of the caller's clock.

    Args:
        set_aside_s: seconds after which an isolated failing batch is deferred.

    Attributes:
        under_backpressure: whether many records are blocked behind failing batches; isolated
            failing batches are then deferred sooner.
    """

    def __init__(self, set_aside_s: float) -> None:
        self.under_backpressure = False
        self._set_aside_s = set_aside_s
        self._states: dict[str, _OrganizationFailures] = {}
        self._lock = Lock()

    def record_failure(self, organization: str, batch_id: str, stats: FailureStats) -> None:
        """Record that a batch failed, and not for the first time."""
        with self._lock:
            self._states.setdefault(organization, _OrganizationFailures()).failing[batch_id] = stats

    def record_success(self, organization: str) -> None:
        """Record that a call for a batch of the organization succeeded."""
        if organization not in self._states:
            return
        with self._lock:
            state = self._states.get(organization)
            if state is not None:
                state.has_successes = True
                state.suspected_until = 0.0
                self._forget_if_over(organization, state)

    def forget_batch(self, organization: str, batch_id: str, now: float) -> None:
        """Remove a batch that was resolved or deferred.

        If other organizations succeeded while all batches of this one failed, its next batches may
        fail too: the organization stays suspected until a batch of it is accepted.
        """
        with self._lock:
            state = self._states.get(organization)
            if state is None:
                return
            stats = state.failing.pop(batch_id, None)
            if stats is not None and stats.is_isolated and not state.has_successes:
                state.suspected_until = now + _SUSPICION_S
            self._forget_if_over(organization, state)

    def max_batches(self, organization: str, quota: int, now: float) -> int | None:
        """Return the maximum number of the organization's batches in flight; None for no limit.

        Args:
            quota: the maximum besides the stuck batches, or in total if none of its batches
                succeed.
        """
        with self._lock:
            state = self._state(organization, now)
            if state is None:
                return None
            return quota + (len(state.failing) if state.has_successes else 0)

    def should_park_queue(
        self, organization: str, quota: int, now: float, *, queue_is_large: bool
    ) -> bool:
        """Return whether to park the organization's queued records beyond `max_batches`.

        If some of its batches succeed, this is only the case when so many others are stuck that
        they would soon take all places.

        Args:
            quota: as in `max_batches`.
            queue_is_large: whether its queued records keep other organizations out of the queue.
        """
        with self._lock:
            state = self._state(organization, now)
            if state is None:
                return False
            if state.has_successes and not (queue_is_large and len(state.failing) > quota):
                return False
            return now < state.suspected_until or any(
                trouble.should_park_queue(self._set_aside_s) for trouble in state.failing.values()
            )

    def _state(self, organization: str, now: float) -> _OrganizationFailures | None:
        state = self._states.get(organization)
        if state is None or state.failing or now < state.suspected_until:
            return state
        del self._states[organization]
        return None

    def _forget_if_over(self, organization: str, state: _OrganizationFailures) -> None:
        if not state.failing and not state.suspected_until:
            del self._states[organization]
