"""Points: the outgoing calls of a worker, each of which can be assigned a fault.

A point is identified by the name of the call and its number since the lap began, such as `pin#2`.
The proxies and the worker's Kafka client report each call to a `Script`, which returns its fault.
"""

import os
import signal
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from enum import StrEnum
from threading import Lock
from typing import NamedTuple


class PointKind(StrEnum):
    """The service that is called."""

    REDIS = "redis"
    HTTP = "http"
    KAFKA = "kafka"


class Point(NamedTuple):
    """A call in a lap."""

    kind: PointKind
    name: str
    number: int

    def __str__(self) -> str:
        return f"{self.name}#{self.number}"


class Script:
    """The faults and the recorded calls of a lap. Thread-safe.

    Attributes:
        pid: the pid of the worker whose calls are reported, which `kill` and `freeze` signal.
    """

    def __init__(self) -> None:
        self.pid = 0
        self._lock = Lock()
        self._counts: Counter[tuple[PointKind, str]] = Counter()
        self._armed: dict[Point, str] = {}
        self._seen: list[Point] = []
        self._fired: dict[Point, float] = {}
        self.frozen_at: float | None = None
        """Monotonic time; None if the worker is not frozen."""

    def begin(self, armed: Mapping[Point, str]) -> None:
        """Begin a lap with these faults, resetting the counts."""
        with self._lock:
            self._counts.clear()
            self._seen.clear()
            self._fired.clear()
            self._armed = dict(armed)

    def at(self, kind: PointKind, name: str) -> str | None:
        """Record a call that is about to be sent and return its fault, if any."""
        with self._lock:
            self._counts[kind, name] += 1
            point = Point(kind, name, self._counts[kind, name])
            self._seen.append(point)
            fault = self._armed.pop(point, None)
            if fault is not None:
                self._fired[point] = time.monotonic()
            return fault

    def seen(self) -> list[Point]:
        """Return the calls of this lap, in order."""
        with self._lock:
            return list(self._seen)

    def fired(self, point: Point) -> bool:
        """Whether the point was reached and its fault applied in this lap."""
        with self._lock:
            return point in self._fired

    def kill(self) -> None:
        """Send SIGKILL to the worker."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def expect_frost(self) -> None:
        """Record that the worker is about to freeze itself."""
        self.frozen_at = time.monotonic()

    def wake(self) -> None:
        """Send SIGCONT to the worker."""
        self.frozen_at = None
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGCONT)

    def freeze(self) -> None:
        """Send SIGSTOP to the worker; the lane wakes it later."""
        self.expect_frost()
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGSTOP)
