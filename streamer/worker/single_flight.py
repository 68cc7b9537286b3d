"""The batches that are being delivered, each by one thread of this process."""

import time
from collections.abc import Callable
from concurrent.futures import Future
from enum import Enum
from threading import Lock

from streamer.model.record import Parked
from streamer.model.result import BatchResult


class Unpinned(Enum):
    """A batch that is no more: its members are to be decided about anew."""

    UNPINNED = "unpinned"


Finished = BatchResult | Parked | Unpinned | None
"""What came of a batch; None if the ledger does not have it."""


class SingleFlight:
    """The batches that are being delivered, so that this process delivers none twice at a time."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._results: dict[str, Future[Finished]] = {}
        self._since: dict[str, float] = {}

    def do(self, batch_id: str, deliver: Callable[[], Finished]) -> Finished:
        """Deliver the batch, or wait for the thread that is at it."""
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
        """Since when the oldest is under way, on the monotonic clock; None if there is none."""
        with self._lock:
            return min(self._since.values(), default=None)
