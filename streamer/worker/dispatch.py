"""Which batch is delivered next, and by which thread."""

import time
from concurrent.futures import Future, ThreadPoolExecutor

from streamer.flow.batcher import Batcher
from streamer.flow.concurrency import ConcurrencyLimiter
from streamer.flow.failures import FailureTracker
from streamer.model.parking import Scope
from streamer.model.record import Parked
from streamer.worker.batch import new_id
from streamer.worker.delivery import Delivery
from streamer.worker.filling import with_spare
from streamer.worker.waiter import StoppedError

_LARGE_QUEUE_SHARE = 0.25
"""The part of the queue that an organization in trouble may fill."""


class Dispatcher:
    """Gives the queue's batches to the threads `sender`, which it owns.

    Its methods are called by the thread that owns the consumer.

    Args:
        batch_size: records that a batch takes.
        max_queued: records that the queue holds, about.
        set_aside_s: for how long, about, a queue is set aside.
    """

    def __init__(
        self,
        delivery: Delivery,
        batcher: Batcher,
        concurrency: ConcurrencyLimiter,
        failures: FailureTracker,
        batch_size: int,
        max_queued: int,
        set_aside_s: float,
    ) -> None:
        self._delivery = delivery
        self._batcher = batcher
        self._concurrency = concurrency
        self._failures = failures
        self._batch_size = batch_size
        self._large_queue = max_queued * _LARGE_QUEUE_SHARE
        self._set_aside_s = set_aside_s
        self._in_flight: dict[Future[None], str] = {}
        """Batches, with their organizations."""
        self._senders = ThreadPoolExecutor(concurrency.total, thread_name_prefix="sender")

    def __len__(self) -> int:
        """How many batches are under way."""
        return len(self._in_flight)

    def dispatch(self, now: float) -> None:
        """Give batches to idle senders, and notice how the others ended.

        Raises:
            Exception: a delivery did, for other than the worker's stop.
        """
        for delivery in [delivery for delivery in self._in_flight if delivery.done()]:
            del self._in_flight[delivery]
            error = delivery.exception()
            if error is not None and not isinstance(error, StoppedError):
                raise error
        for organization in set(self._in_flight.values()):
            while self._should_park_queue(organization, now):
                self._park_queue(organization)
        most = with_spare(self._batch_size)
        while (
            ready := self._batcher.take_ready(
                now, most, self._is_saturated, lambda name: not self._has_capacity(name, now)
            )
        ) is not None:
            self._in_flight[self._senders.submit(self._delivery.run, *ready)] = ready[0]

    def close(self) -> None:
        """Begin no more; what is under way is left to itself."""
        self._senders.shutdown(wait=False, cancel_futures=True)

    def _is_saturated(self, account: str | None) -> bool:
        """Whether no batch of the account may be under way beside those that are."""
        return self._concurrency.is_saturated(account, self._in_flight.values())

    def _has_capacity(self, organization: str, now: float) -> bool:
        """Whether one more batch of the organization may be under way."""
        max_own = self._failures.max_batches(organization, self._concurrency.quota, now)
        return self._concurrency.has_capacity(organization, self._in_flight.values(), max_own)

    def _should_park_queue(self, organization: str, now: float) -> bool:
        """Whether what an organization in trouble has queued goes aside while it has no place."""
        queued = self._batcher.queued(organization)
        return (
            queued > 0
            and not self._has_capacity(organization, now)
            and self._failures.should_park_queue(
                organization,
                self._concurrency.quota,
                now,
                queue_is_large=queued > self._large_queue,
            )
        )

    def _park_queue(self, organization: str) -> None:
        """Park a batch of records as they are: those that were pinned, too, are tried when they
        are back."""
        now = time.time()
        # Not each at a time of its own: bringing some back moves all that are parked.
        until_s = (now // self._set_aside_s + 2) * self._set_aside_s
        scope = Scope.of_batch(organization, new_id())
        for record in self._batcher.take(organization, self._batch_size):
            record.resolve(Parked(scope, round(until_s * 1000), maybe_pinned=True), now)
