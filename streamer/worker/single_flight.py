"""Deduplicates concurrent deliveries of a batch within this process."""

import time
from collections.abc import Callable
from concurrent.futures import Future
from enum import Enum
from threading import Lock

from streamer.model.record import Parked
from streamer.model.result import BatchResult


class Unpinned(Enum):
    """Result of a batch that was unpinned: its records must be decided anew."""

    UNPINNED = "unpinned"


Finished = BatchResult | Parked | Unpinned | None
"""The result of a batch; None if the ledger does not have it."""


class SingleFlight:
    """Ensures that at most one thread of this process delivers a given batch at a time."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._results: dict[str, Future[Finished]] = {}
        self._since: dict[str, float] = {}

    def do(self, batch_id: str, deliver: Callable[[], Finished]) -> Finished:
        """Deliver the batch; if another thread is doing so, wait for its result or error."""
        with self._lock:
            other = self._results.get(batch_id)
            if other is None:
                mine: Future[Finished] = Future()
                self._results[batch_id] = mine
                self._since[batch_id] = time.monotonic()
        if other is not None:
            return other.result()
        try:
            result = deliver()
        except BaseException as error:
            mine.set_exception(error)
            raise
        else:
            mine.set_result(result)
            return result
        finally:
            with self._lock:
                del self._results[batch_id], self._since[batch_id]

    def oldest(self) -> float | None:
        """When the oldest running delivery started, on the monotonic clock, or None."""
        with self._lock:
            return min(self._since.values(), default=None)
