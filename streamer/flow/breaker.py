"""Detects when most records become dead letters, so the data is not the cause. No I/O."""

from collections import deque
from collections.abc import Iterable, Sequence


class DeadLetterBreaker:
    """Tracks the share of dead letters among the last records.

    Args:
        records: the number of records to remember.
        dead_share: the share of them that may be dead letters, from 0 to 1.
    """

    def __init__(self, records: int, dead_share: float) -> None:
        self._limit = records * dead_share
        self._last: deque[bool] = deque(maxlen=records)
        self._dead = 0

    def trips(self, coming: Iterable[bool]) -> bool:
        """Return whether the given records would make too many dead letters, without adding them.

        The limit refers to the full number of remembered records, so a few dead letters at the
        start do not exceed it.
        """
        last, dead, size = deque(self._last), self._dead, self._last.maxlen or 0
        for is_dead in coming:
            last.append(is_dead)
            dead += is_dead
            if len(last) > size:
                dead -= last.popleft()
            if dead > self._limit:
                return True
        return False

    def remember(self, records: Sequence[bool]) -> None:
        """Add committed records."""
        if not (self._dead or any(records)):
            self._last.extend(records)
            return
        for is_dead in records:
            if len(self._last) == self._last.maxlen:
                self._dead -= self._last[0]
            self._last.append(is_dead)
            self._dead += is_dead

    @property
    def dead(self) -> int:
        """The number of dead letters among the last records."""
        return self._dead
