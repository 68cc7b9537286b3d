"""Interruptible waiting: sleeps and Redis retries that end when the worker stops."""

import logging
import random
from collections.abc import Callable
from threading import Event, Lock, get_ident
from typing import TypeVar

from streamer.errors import DONE, StreamerError
from streamer.flow.retry import Backoff
from streamer.ledger.connection import UNREACHABLE
from streamer.worker.clock import WorkerClock

logger = logging.getLogger(__name__)

T = TypeVar("T")

_REDIS_BACKOFF = Backoff(base_s=0.1, cap_s=1.0)
_SAY_EVERY_S = 30.0


class StoppedError(StreamerError):
    """The worker stops; undecided records are left to their next owner."""

    exit_code = DONE


class Waiter:
    """Lets a worker's threads wait, and tracks which of them wait for Redis. Thread-safe.

    Attributes:
        clock: the clock that it waits by, also for the parts of the worker that wait with it.
        on_change: called when the first thread starts waiting for Redis, and when the last one
            stops.
    """

    def __init__(self, clock: WorkerClock | None = None) -> None:
        self.clock = clock or WorkerClock()
        self.on_change: Callable[[], None] = lambda: None
        self._stopped = Event()
        self._lock = Lock()
        self._errors: dict[int, str] = {}
        """By thread, the reason why Redis cannot be used."""
        self._since = 0.0
        self._say_at: dict[str, float] = {}
        """By reason, when to log it again: several threads may alternate between reasons."""

    def stop(self) -> None:
        """End all current and future waits with StoppedError."""
        self._stopped.set()

    def sleep(self, seconds: float) -> None:
        """Sleep.

        Raises:
            StoppedError: the worker stops.
        """
        if self.clock.wait(self._stopped, seconds):
            raise StoppedError

    @property
    def redis_problem(self) -> str | None:
        """Why and for how long threads have been waiting for Redis; None if none is waiting."""
        with self._lock:
            if not self._errors:
                return None
            reason = next(iter(self._errors.values()))
            return f"waiting for Redis for {self.clock.monotonic() - self._since:.0f} s: {reason}"

    def retry_redis(self, call: Callable[[], T]) -> T:
        """Retry the call until Redis can be used; without it nothing is sent, and nothing lost.

        Raises:
            StoppedError: the worker stops.
            redis.exceptions.RedisError: an error that waiting does not fix.
        """
        failures = 0
        try:
            while True:
                try:
                    return call()
                except UNREACHABLE as error:
                    failures += 1
                    self._note(f"{type(error).__name__}: {error}")
                    self.sleep(_REDIS_BACKOFF.delay(failures, random.random))
        finally:
            if failures:
                self._forget()

    def _note(self, reason: str) -> None:
        """Note the reason; log it at first, when it changes, and periodically."""
        now = self.clock.monotonic()
        with self._lock:
            is_first = not self._errors
            if is_first:
                self._since = now
            self._errors[get_ident()] = reason
            is_due = now >= self._say_at.get(reason, 0.0) and not self._stopped.is_set()
            if is_due:
                self._say_at[reason] = now + _SAY_EVERY_S
            waited_s = now - self._since
        if is_due:
            logger.warning(
                "Redis is unavailable, waiting",
                extra={"error": reason, "seconds": round(waited_s)},
            )
        if is_first:
            self.on_change()

    def _forget(self) -> None:
        with self._lock:
            self._errors.pop(get_ident(), None)
            is_over = not self._errors
            if is_over:
                self._say_at.clear()
            waited_s = self.clock.monotonic() - self._since
        if is_over and not self._stopped.is_set():
            logger.info("Redis is available again", extra={"seconds": round(waited_s)})
        if is_over:
            self.on_change()
