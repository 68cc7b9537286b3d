"""Whether a worker takes more records: what it may hold is bounded, whatever the backlog."""

from enum import Enum

_FULL_WAIT_S = 0.5
_RESUME_AT = 0.5


class IntakeMode(Enum):
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


class AdmissionControl:
    """Room for records, queued and decided. Times are seconds of one clock of the caller's.

    It is bounded by what they take in memory. Beside that as much is read ahead as it takes to
    have full batches: as long as there are none, there is nothing better to do than to read on.

    Args:
        max_full: full batches that may wait.
        max_bytes: of memory, for all records that are held, the decided ones among them.
    """

    def __init__(self, max_full: int, max_bytes: int) -> None:
        self._max_full = max_full
        self._max_bytes = max_bytes
        self._full_since: float | None = None

    def mode(self, full_batches: int, held_bytes: int, now: float) -> IntakeMode:
        """What to do now, given the full batches that wait and what is held.

        A short fullness is waited out: a pause would throw away what was read ahead. A long one
        pauses, so that polling can go on and the group does not give the worker up. What was
        paused goes on when half the batches are gone, however much is held.
        """
        if full_batches < self._max_full and held_bytes < self._max_bytes:
            self._full_since = None
            is_open = full_batches <= self._max_full * _RESUME_AT
            return IntakeMode.OPEN if is_open else IntakeMode.AS_IS
        if self._full_since is None:
            self._full_since = now
        return IntakeMode.PAUSE if now - self._full_since > _FULL_WAIT_S else IntakeMode.WAIT

    def is_under_backpressure(self, blocked_bytes: int) -> bool:
        """Whether so much waits behind others that soon nothing more could be taken."""
        return blocked_bytes > self._max_bytes / 2
