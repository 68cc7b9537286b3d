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

    It is bounded by what they take in memory. Beside that as much is read ahead as it takes to
    have full batches: as long as there are none, there is nothing better to do than to read on.

    Args:
        most_full: full batches that may wait.
        most_bytes: of memory, for all records that are held, the decided ones among them.
    """

    def __init__(self, most_full: int, most_bytes: int) -> None:
        self._most_full = most_full
        self._most_bytes = most_bytes
        self._full_since: float | None = None

    def intake(self, full_batches: int, held_bytes: int, now: float) -> Intake:
        """What to do now, given the full batches that wait and what is held.

        A short fullness is waited out: a pause would throw away what was read ahead. A long one
        pauses, so that polling can go on and the group does not give the worker up. What was
        paused goes on when half the batches are gone, however much is held.
        """
        if full_batches < self._most_full and held_bytes < self._most_bytes:
            self._full_since = None
            is_open = full_batches <= self._most_full * _RESUME_AT
            return Intake.OPEN if is_open else Intake.AS_IS
        if self._full_since is None:
            self._full_since = now
        return Intake.PAUSE if now - self._full_since > _FULL_WAIT_S else Intake.WAIT

    def is_pressed(self, blocked_bytes: int) -> bool:
        """Whether so much waits behind others that soon nothing more could be taken."""
        return blocked_bytes > self._most_bytes / 2
