"""Measures what a worker holds, from its windows, queue and batches."""

from streamer import metrics
from streamer.flow.admission import AdmissionControl
from streamer.flow.batcher import Batcher
from streamer.flow.failure_stats import BACKPRESSURE_RECORDS
from streamer.flow.failures import FailureTracker
from streamer.worker.dispatch import Dispatcher
from streamer.worker.finishing import Finisher
from streamer.worker.source import RecordSource

_COMMIT_AT_RECORDS = 2_000
_COMMIT_AT_BYTES = 8_000_000


class Measures:
    """Computes the worker's gauges. Owned by the consumer's thread.

    Args:
        batch_size: records per batch.
    """

    def __init__(
        self,
        source: RecordSource,
        batcher: Batcher,
        dispatcher: Dispatcher,
        finisher: Finisher,
        control: AdmissionControl,
        failures: FailureTracker,
        batch_size: int,
    ) -> None:
        self._source = source
        self._batcher = batcher
        self._dispatcher = dispatcher
        self._finisher = finisher
        self._control = control
        self._failures = failures
        self._batch_size = batch_size

    def is_much_done(self) -> bool:
        """Whether to commit now, to free memory, instead of at the next due time."""
        is_much = self._decided(spare_batches=1) > _COMMIT_AT_RECORDS
        return is_much or self._decided_bytes() > _COMMIT_AT_BYTES

    def measure(self, now: float) -> None:
        """Update the gauges, and signal backpressure if too much waits behind the batches."""
        metrics.IN_FLIGHT.set(self._source.held)
        metrics.IN_FLIGHT_BYTES.set(self._source.held_bytes)
        blocked = max(0, self._decided())
        metrics.BLOCKED.set(blocked)
        self._failures.under_backpressure = (
            blocked > BACKPRESSURE_RECORDS
            or self._control.is_under_backpressure(self._decided_bytes())
        )
        oldest = self._finisher.oldest()
        # A batch may have been pinned since `now`.
        metrics.OLDEST_BATCH_AGE.set(0 if oldest is None else max(0.0, now - oldest))
        self._source.measure()

    def _decided(self, spare_batches: int = 0) -> int:
        """Records that are neither queued nor in a batch, assuming that every batch is full."""
        batches = len(self._dispatcher) + spare_batches
        return self._source.held - len(self._batcher) - batches * self._batch_size

    def _decided_bytes(self) -> int:
        return self._source.held_bytes - self._batcher.bytes
