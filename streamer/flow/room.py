"""Whether a worker takes more records: what it may hold is bounded, whatever the backlog."""

from enum import Enum

_FULL_WAIT_S = 0.5
_RESUME_AT = 0.5


class Intake(Enum):
    """What to do about the input.

    Attributes:
        OPEN: take records, of partitions that were paused too.
        AS_IS: take records of partitions that are not paused.
        WAIT: take none for a moment.
        PAUSE: pause all partitions, and go on polling.
    """

    OPEN = "open"
    AS_IS = "as is"
    WAIT = "wait"
    PAUSE = "pause"


class Room:
    """Room for records, queued and decided. Times are seconds of one clock of the caller's.

    Decided records, behind one that is not, are small, and may be many: else one batch that is
    stuck would soon stop all.

    Args:
        most_queued: records that may wait for a batch.
        most_bytes: bytes of their values.
        most_held: records that may be held in all, the decided ones among them.
    """

    def __init__(self, most_queued: int, most_bytes: int, most_held: int) -> None:
        self._most_queued = most_queued
        self._most_bytes = most_bytes
        self._most_held = most_held
        self._full_since: float | None = None

    def intake(self, queued: int, queued_bytes: int, held: int, now: float) -> Intake:
        """What to do now, given what waits and what is held.

        A short fullness is waited out: a pause would throw away what was read ahead. A long one
        pauses, so that polling can go on and the group does not give the worker up. What was
        paused goes on when half the queue is free, however much is held.
        """
        queue = max(queued / self._most_queued, queued_bytes / self._most_bytes)
        if queue < 1 and held < self._most_held:
            self._full_since = None
            return Intake.OPEN if queue <= _RESUME_AT else Intake.AS_IS
        if self._full_since is None:
            self._full_since = now
        return Intake.PAUSE if now - self._full_since > _FULL_WAIT_S else Intake.WAIT
