"""Schedules the queue's batches onto the sender threads."""

import time
from concurrent.futures import Future, ThreadPoolExecutor

from streamer.flow.batcher import Batcher
from streamer.flow.concurrency import ConcurrencyLimiter
from streamer.flow.failures import FailureTracker
from streamer.model.parking import Scope
from streamer.model.record import Parked, Record
from streamer.worker.batch import new_id
from streamer.worker.delivery import Delivery
from streamer.worker.filling import with_spare
from streamer.worker.waiter import StoppedError

_REST_AFTER_S = 10.0
"""Time without batches after which the sender threads end."""
_LARGE_QUEUE_SHARE = 0.25
"""Share of the queue that a failing organization may fill."""


class Dispatcher:
    """Runs the queue's batches on the `sender` threads, which it owns.

    Its methods must be called on the consumer's thread.

    Args:
        batch_size: records per batch.
        max_queued: approximate capacity of the queue, in records.
        set_aside_s: approximate time for which a queue is parked.
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
        """Running deliveries, with their organizations."""
        self._senders: ThreadPoolExecutor | None = None
        """None while there is nothing to send."""
        self._busy_at = 0.0

    def __len__(self) -> int:
        """How many batches are in flight."""
        return len(self._in_flight)

    def dispatch(self, now: float) -> None:
        """Start batches on idle senders, and collect finished deliveries.

        Raises:
            Exception: what a delivery raised, other than StoppedError.
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
            self._in_flight[self._submit(ready)] = ready[0]
        if self._in_flight:
            self._busy_at = now
        elif now - self._busy_at > _REST_AFTER_S:
            self.close()

    def _submit(self, batch: tuple[str, list[Record]]) -> Future[None]:
        if self._senders is None:
            total = self._concurrency.total
            self._senders = ThreadPoolExecutor(total, thread_name_prefix="sender")
        return self._senders.submit(self._delivery.run, *batch)

    def close(self) -> None:
        """End the threads; running batches are not waited for, those that wait are dropped."""
        if self._senders is not None:
            self._senders.shutdown(wait=False, cancel_futures=True)
            self._senders = None

    def _is_saturated(self, account: str | None) -> bool:
        """Whether the account may have no more batches in flight."""
        return self._concurrency.is_saturated(account, self._in_flight.values())

    def _has_capacity(self, organization: str, now: float) -> bool:
        """Whether the organization may have one more batch in flight."""
        max_own = self._failures.max_batches(organization, self._concurrency.quota, now)
        return self._concurrency.has_capacity(organization, self._in_flight.values(), max_own)

    def _should_park_queue(self, organization: str, now: float) -> bool:
        """Whether to park the queued records of a failing organization that has no capacity."""
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
        """Park one batch of queued records undecided; also those that may be pinned already,
        which are retried when they return."""
        now = time.time()
        # Round, so that they return together: returning some moves all parked records.
        until_s = (now // self._set_aside_s + 2) * self._set_aside_s
        scope = Scope.of_batch(organization, new_id())
        for record in self._batcher.take(organization, self._batch_size):
            record.resolve(Parked(scope, round(until_s * 1000), maybe_pinned=True), now)
