"""The clocks that a worker reads, and waits by."""

import time
from datetime import UTC, datetime
from threading import Event

_BOOTTIME = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class WorkerClock:
    """The system's clocks; tests replace it with one whose time passes only during a wait.

    All times are in seconds.
    """

    def monotonic(self) -> float:
        """The time on the monotonic clock, for durations."""
        return time.monotonic()

    def boottime(self) -> float:
        """The time on the clock used for deadlines.

        It includes the time that the machine is suspended, where the system has such a clock, as
        the provider's clock goes on too.
        """
        return time.clock_gettime(_BOOTTIME)

    def time(self) -> float:
        """The time since 1970."""
        return time.time()

    def utc(self) -> datetime:
        """The time since 1970, as a datetime."""
        return datetime.fromtimestamp(self.time(), UTC)

    def wait(self, event: Event, seconds: float) -> bool:
        """Wait for an event, at most for so long; return whether it is set."""
        return event.wait(seconds)
