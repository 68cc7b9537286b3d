"""Decides whether a worker takes in more records, with bounded memory for any backlog."""

from enum import Enum

_FULL_WAIT_S = 0.5
_RESUME_AT = 0.5


class IntakeMode(Enum):
    """What to do with the input.

    Attributes:
        OPEN: take records, and resume paused partitions.
        AS_IS: take records from the partitions that are not paused.
        WAIT: take none for a moment.
        PAUSE: pause all partitions, but continue polling.
    """

    OPEN = "open"
    AS_IS = "as is"
    WAIT = "wait"
    PAUSE = "pause"


class AdmissionControl:
    """Limits the records a worker holds, queued and decided, by the memory they use.

    Within that limit, records are read ahead until enough full batches are waiting: while there are
    none, reading on is the best thing to do. Times are seconds of the caller's clock.

    Args:
        max_full: the maximum number of full batches waiting.
        max_bytes: the maximum memory of all held records, including decided ones.
    """

    def __init__(self, max_full: int, max_bytes: int) -> None:
        self._max_full = max_full
        self._max_bytes = max_bytes
        self._full_since: float | None = None

    def mode(self, full_batches: int, held_bytes: int, now: float) -> IntakeMode:
        """Return what to do now, given the number of full batches waiting and the bytes held.

        If full only briefly, the worker waits: pausing would discard the records that were
        prefetched. If full for longer, it pauses, so that polling can continue and the group does
        not evict the worker. Once there is room again, paused partitions are resumed as soon as at
        most half of the full batches are left, however many bytes are held.
        """
        if full_batches < self._max_full and held_bytes < self._max_bytes:
            self._full_since = None
            is_open = full_batches <= self._max_full * _RESUME_AT
            return IntakeMode.OPEN if is_open else IntakeMode.AS_IS
        if self._full_since is None:
            self._full_since = now
        return IntakeMode.PAUSE if now - self._full_since > _FULL_WAIT_S else IntakeMode.WAIT

    def is_under_backpressure(self, blocked_bytes: int) -> bool:
        """Return whether blocked records use so much memory that the worker will soon be full."""
        return blocked_bytes > self._max_bytes / 2
