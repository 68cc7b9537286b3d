"""Organizations whose batches keep failing, and what they may take from others.

Where some batches of an organization fail and others do not, its batches go on, beside those that
are stuck. Where all of them fail and other organizations' go through, two at a time try, and what
else it has queued is set aside at once: each record that waits for its turn to fail would keep
back the outcomes of all that stand behind it in its partition, and soon nobody would get a turn.
"""

from dataclasses import dataclass, field
from threading import Lock

from streamer.flow.failure_stats import FailureStats

_SUSPICION_S = 3600.0
"""Forgotten after so long anyway: the organization may not send any more."""


@dataclass(slots=True)
class _OrganizationFailures:
    """Of one organization.

    Attributes:
        failing: its batches that fail now.
        has_successes: whether others of its batches were taken since the first of these failed.
        suspected_until: when it is forgotten that all that it had failed.
    """

    failing: dict[str, FailureStats] = field(default_factory=dict)
    has_successes: bool = False
    suspected_until: float = 0.0


class FailureTracker:
    """The organizations in trouble. Its methods may be called from any thread; times are seconds
    of one clock of the caller's.

    Args:
        set_aside_s: after how long a batch that fails alone is set aside.

    Attributes:
        under_backpressure: whether much waits behind batches that keep failing: one that fails
            alone goes aside sooner.
    """

    def __init__(self, set_aside_s: float) -> None:
        self.under_backpressure = False
        self._set_aside_s = set_aside_s
        self._states: dict[str, _OrganizationFailures] = {}
        self._lock = Lock()

    def record_failure(self, organization: str, batch_id: str, stats: FailureStats) -> None:
        """A batch failed, and not for the first time."""
        with self._lock:
            self._states.setdefault(organization, _OrganizationFailures()).failing[batch_id] = stats

    def record_success(self, organization: str) -> None:
        """A call for a batch of the organization went through."""
        if organization not in self._states:
            return
        with self._lock:
            state = self._states.get(organization)
            if state is not None:
                state.has_successes = True
                state.suspected_until = 0.0
                self._forget_if_over(organization, state)

    def forget_batch(self, organization: str, batch_id: str, now: float) -> None:
        """A batch ended, or was set aside. If others went through while all of its organization's
        failed, the next of it may fail as well: that is remembered until one of it is taken."""
        with self._lock:
            state = self._states.get(organization)
            if state is None:
                return
            stats = state.failing.pop(batch_id, None)
            if stats is not None and stats.is_isolated and not state.has_successes:
                state.suspected_until = now + _SUSPICION_S
            self._forget_if_over(organization, state)

    def max_batches(self, organization: str, quota: int, now: float) -> int | None:
        """How many batches of the organization may be under way; None: as many as of others.

        Args:
            quota: how many beside those that are stuck, or at all if nothing of it goes through.
        """
        with self._lock:
            state = self._state(organization, now)
            if state is None:
                return None
            return quota + (len(state.failing) if state.has_successes else 0)

    def should_park_queue(
        self, organization: str, quota: int, now: float, *, queue_is_large: bool
    ) -> bool:
        """Whether what is queued of it, beyond those batches, is set aside.

        If some of it goes through, that is only where so many others are stuck that more would
        soon take all places.

        Args:
            quota: as in `max_batches`.
            queue_is_large: whether it is so much that it keeps others out of the queue.
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
