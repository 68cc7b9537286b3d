"""Points: every call that leaves a worker has a name and a number, and a fault can be ordered
for it.

A point is named by what is called and by how often that was called since the lap began, as
`pin#2`. The proxies and the worker's Kafka client report each call to a `Script`, which says what
is to go wrong with it.
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
    """What is called."""

    REDIS = "redis"
    HTTP = "http"
    KAFKA = "kafka"


class Point(NamedTuple):
    """A call of a lap."""

    kind: PointKind
    name: str
    number: int

    def __str__(self) -> str:
        return f"{self.name}#{self.number}"


class Script:
    """What goes wrong in a lap, and what was called. May be used from any thread.

    Attributes:
        pid: of the worker whose calls are reported: it is killed and frozen by this.
    """

    def __init__(self) -> None:
        self.pid = 0
        self._lock = Lock()
        self._counts: Counter[tuple[PointKind, str]] = Counter()
        self._armed: dict[Point, str] = {}
        self._seen: list[Point] = []
        self._fired: dict[Point, float] = {}
        self.frozen_at: float | None = None
        """Monotonic; None if it is not frozen."""

    def begin(self, armed: Mapping[Point, str]) -> None:
        """Begin a lap: count from one, with these faults."""
        with self._lock:
            self._counts.clear()
            self._seen.clear()
            self._fired.clear()
            self._armed = dict(armed)

    def at(self, kind: PointKind, name: str) -> str | None:
        """A call is to leave now: what is to go wrong with it, if anything is."""
        with self._lock:
            self._counts[kind, name] += 1
            point = Point(kind, name, self._counts[kind, name])
            self._seen.append(point)
            fault = self._armed.pop(point, None)
            if fault is not None:
                self._fired[point] = time.monotonic()
            return fault

    def seen(self) -> list[Point]:
        """The calls of this lap, in their order."""
        with self._lock:
            return list(self._seen)

    def fired(self, point: Point) -> bool:
        """Whether the point was reached, with its fault, in this lap."""
        with self._lock:
            return point in self._fired

    def kill(self) -> None:
        """SIGKILL the worker."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def expect_frost(self) -> None:
        """The worker freezes itself now."""
        self.frozen_at = time.monotonic()

    def wake(self) -> None:
        """SIGCONT the worker."""
        self.frozen_at = None
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGCONT)

    def freeze(self) -> None:
        """SIGSTOP the worker; whoever runs the lap wakes it."""
        self.expect_frost()
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGSTOP)
