"""When most records are dead letters, it is not the data that is broken. Pure."""

from collections import deque
from collections.abc import Iterable


class DeadLetterBreaker:
    """Remembers of the last records whether they were dead letters.

    Args:
        records: how many it remembers.
        dead_share: of them that may be dead letters, from 0 to 1.
    """

    def __init__(self, records: int, dead_share: float) -> None:
        self._limit = records * dead_share
        self._last: deque[bool] = deque(maxlen=records)
        self._dead = 0

    def trips(self, coming: Iterable[bool]) -> bool:
        """Whether too many would be dead letters with these records, which are not remembered.

        It takes as many records as it remembers, and not a few at the start, to say so.
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

    def remember(self, records: Iterable[bool]) -> None:
        """Add records, which are committed."""
        for is_dead in records:
            if len(self._last) == self._last.maxlen:
                self._dead -= self._last[0]
            self._last.append(is_dead)
            self._dead += is_dead

    @property
    def dead(self) -> int:
        """Dead letters among the last records."""
        return self._dead
