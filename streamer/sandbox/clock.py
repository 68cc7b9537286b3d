"""The server's idea of time."""

import time


class Clock:
    """System time. Its wall clock can be put forward, to let keys expire and quotas renew.

    `monotonic` is never shifted: on Linux and macOS it is the same clock in every process, so a
    test may compare it with its own.
    """

    def __init__(self) -> None:
        self._ahead_s = 0.0

    def monotonic(self) -> float:
        return time.monotonic()

    def wall(self) -> float:
        return time.time() + self._ahead_s

    def advance(self, seconds: float) -> None:
        """Put the wall clock forward."""
        self._ahead_s += seconds
