"""A clock whose time passes only while somebody waits."""

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from math import ceil
from threading import Event

from streamer.worker.clock import WorkerClock

_START_US = 1_800_000_000_000_000
_MAX_WAITS = 200_000


class FakeClock(WorkerClock):
    """Returns from every wait at once, with the time advanced.

    Attributes:
        us: microseconds since 1970, as on the server's clock.
        waits: the length of each wait, in seconds.
    """

    def __init__(self) -> None:
        self.us = _START_US
        self.waits: list[float] = []
        self._suspended_us = 0
        self._due: list[tuple[int, int, Callable[[], object]]] = []
        self._numbers = count()

    def monotonic(self) -> float:
        return (self.us - _START_US - self._suspended_us) / 1_000_000

    def boottime(self) -> float:
        return (self.us - _START_US) / 1_000_000

    def time(self) -> float:
        return self.us / 1_000_000

    def wait(self, event: Event, seconds: float) -> bool:
        """Advance the time until the event is set by something due meanwhile, or the wait ends."""
        assert len(self.waits) < _MAX_WAITS, "waits for ever"
        self.waits.append(seconds)
        # Rounded up: the end of a wait that is not quite reached would be waited for again.
        end_us = self.us + ceil(seconds * 1_000_000)
        while not event.is_set() and self._run_next(end_us):
            pass
        if not event.is_set():
            self.us = max(self.us, end_us)
        return event.is_set()

    def advance(self, seconds: float) -> None:
        """Let the time pass, with all that is due meanwhile."""
        end_us = self.us + round(seconds * 1_000_000)
        while self._run_next(end_us):
            pass
        self.us = max(self.us, end_us)

    def suspend(self, seconds: float) -> None:
        """Suspend the machine: its monotonic clock stands still, the others go on."""
        self.us += round(seconds * 1_000_000)
        self._suspended_us += round(seconds * 1_000_000)

    def after(self, seconds: float, action: Callable[[], object]) -> None:
        """Do something in so many seconds: during whichever wait lasts until then."""
        due_us = self.us + round(seconds * 1_000_000)
        heappush(self._due, (due_us, next(self._numbers), action))

    def _run_next(self, end_us: int) -> bool:
        """Do what is due next, if it is due before the end."""
        if not self._due or self._due[0][0] > end_us:
            return False
        due_us, _, action = heappop(self._due)
        self.us = max(self.us, due_us)
        action()
        return True
