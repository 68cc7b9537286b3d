"""Organizations whose batches keep failing, and what they may take from others.

Where some batches of an organization fail and others do not, its batches go on, beside those that
are stuck. Where all of them fail and other organizations' go through, two at a time try, and what
else it has queued is set aside at once: each record that waits for its turn to fail would keep
back the outcomes of all that stand behind it in its partition, and soon nobody would get a turn.
"""

from dataclasses import dataclass, field
from threading import Lock

from streamer.flow.verdicts import Trouble

_SUSPICION_S = 3600.0
"""Forgotten after so long anyway: the organization may not send any more."""


@dataclass(slots=True)
class _State:
    """Of one organization.

    Attributes:
        failing: its batches that fail now.
        gets_through: whether others of its batches were taken since the first of these failed.
        suspected_until: when it is forgotten that all that it had failed.
    """

    failing: dict[str, Trouble] = field(default_factory=dict)
    gets_through: bool = False
    suspected_until: float = 0.0


class Troubles:
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
        self._states: dict[str, _State] = {}
        self._lock = Lock()

    def failed(self, organization: str, batch_id: str, trouble: Trouble) -> None:
        """A batch failed, and not for the first time."""
        with self._lock:
            self._states.setdefault(organization, _State()).failing[batch_id] = trouble

    def taken(self, organization: str) -> None:
        """A call for a batch of the organization went through."""
        if organization not in self._states:
            return
        with self._lock:
            state = self._states.get(organization)
            if state is not None:
                state.gets_through = True
                state.suspected_until = 0.0
                self._forget_if_over(organization, state)

    def ended(self, organization: str, batch_id: str, now: float) -> None:
        """A batch ended, or was set aside. If others went through while all of its organization's
        failed, the next of it may fail as well: that is remembered until one of it is taken."""
        with self._lock:
            state = self._states.get(organization)
            if state is None:
                return
            trouble = state.failing.pop(batch_id, None)
            if trouble is not None and trouble.is_its_own and not state.gets_through:
                state.suspected_until = now + _SUSPICION_S
            self._forget_if_over(organization, state)

    def most_batches(self, organization: str, share: int, now: float) -> int | None:
        """How many batches of the organization may be under way; None: as many as of others.

        Args:
            share: how many beside those that are stuck, or at all if nothing of it goes through.
        """
        with self._lock:
            state = self._state(organization, now)
            if state is None:
                return None
            return share + (len(state.failing) if state.gets_through else 0)

    def sets_queue_aside(self, organization: str, share: int, now: float, *, is_much: bool) -> bool:
        """Whether what is queued of it, beyond those batches, is set aside.

        If some of it goes through, that is only where so many others are stuck that more would
        soon take all places.

        Args:
            share: as in `most_batches`.
            is_much: whether it is so much that it keeps others out of the queue.
        """
        with self._lock:
            state = self._state(organization, now)
            if state is None:
                return False
            if state.gets_through and not (is_much and len(state.failing) > share):
                return False
            return now < state.suspected_until or any(
                trouble.crowds(self._set_aside_s) for trouble in state.failing.values()
            )

    def _state(self, organization: str, now: float) -> _State | None:
        state = self._states.get(organization)
        if state is None or state.failing or now < state.suspected_until:
            return state
        del self._states[organization]
        return None

    def _forget_if_over(self, organization: str, state: _State) -> None:
        if not state.failing and not state.suspected_until:
            del self._states[organization]
