"""The server's clock."""

import time


class Clock:
    """System time, with a wall clock that can be advanced to expire keys and renew quotas.

    `monotonic` is never shifted: on Linux and macOS all processes share this clock, so tests can
    compare it with their own.
    """

    def __init__(self) -> None:
        self._ahead_s = 0.0

    def monotonic(self) -> float:
        return time.monotonic()

    def wall(self) -> float:
        return time.time() + self._ahead_s

    def advance(self, seconds: float) -> None:
        """Advance the wall clock."""
        self._ahead_s += seconds
