"""Waiting that ends when the worker stops."""

import logging
import random
import time
from collections.abc import Callable
from threading import Event
from typing import TypeVar

from streamer.flow.retry import Backoff
from streamer.ledger.connection import UNREACHABLE

logger = logging.getLogger(__name__)

T = TypeVar("T")

_REDIS_BACKOFF = Backoff(base_s=0.1, cap_s=2.0)

# Counts the time that the machine sleeps, where the system has such a clock: the provider's
# clock does too.
_DEADLINE_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class StoppedError(Exception):
    """The worker stops: what is not decided yet is left to the records' next owner."""


class Waiting:
    """How the sender threads wait."""

    def __init__(self) -> None:
        self._stopped = Event()

    def stop(self) -> None:
        """End every wait, now and from now on, with StoppedError."""
        self._stopped.set()

    def sleep(self, seconds: float) -> None:
        """Wait so long."""
        if self._stopped.wait(seconds):
            raise StoppedError

    def for_redis(self, call: Callable[[], T]) -> T:
        """Call until Redis can be used: nothing is sent, and nothing is lost, without it."""
        failures = 0
        while True:
            try:
                result = call()
            except UNREACHABLE as error:
                failures += 1
                level = logging.WARNING if failures == 1 else logging.DEBUG
                logger.log(level, "Redis cannot be used, waiting", extra={"error": str(error)})
                self.sleep(_REDIS_BACKOFF.delay(failures, random.random))
            else:
                if failures:
                    logger.info("Redis can be used again", extra={"failures": failures})
                return result


def deadline_clock() -> float:
    """Seconds on the clock that deadlines are kept by."""
    return time.clock_gettime(_DEADLINE_CLOCK)
