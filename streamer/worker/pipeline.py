"""A worker's main loop (poll, admit, batch, deliver, commit), its rebalances and its shutdown.

The thread that calls `run` owns the consumer and the producer. It admits records to the windows
of their partitions and queues them for batches. The sender threads deliver the batches. This
thread commits the resolved prefix of each window: everything before the first unresolved record.
"""

import logging
import time
from contextlib import suppress
from threading import Event

from confluent_kafka import KafkaException

from streamer import metrics
from streamer.flow.batcher import Batcher
from streamer.kafka import transactions
from streamer.worker.admission import POLL_RECORDS, POLL_S, Admission
from streamer.worker.arrivals import Windows
from streamer.worker.committer import BreakerError, Committer
from streamer.worker.dispatch import Dispatcher
from streamer.worker.life import Life, WorkerState
from streamer.worker.measures import Measures
from streamer.worker.probing import Prober
from streamer.worker.relay import Relay
from streamer.worker.reporting import WorkerReporter
from streamer.worker.source import FencedError, RecordSource
from streamer.worker.verifying import EpochVerifier
from streamer.worker.waiter import Waiter

logger = logging.getLogger(__name__)

_COMMIT_EVERY_S = 0.1
_MEASURE_EVERY_S = 1.0
_REVOKE_DRAIN_S = 1.0
_REVOKE_COMMIT_S = 3.0
_RELAY_END_S = 5.0


class Pipeline:
    """Runs one worker, from its first poll to its last commit. Built by `worker.build`.

    Args:
        shutdown_timeout_s: how long a shutdown waits for batches in flight.
    """

    def __init__(
        self,
        source: RecordSource,
        admission: Admission,
        batcher: Batcher,
        dispatcher: Dispatcher,
        committer: Committer,
        measures: Measures,
        verifier: EpochVerifier,
        reporter: WorkerReporter,
        prober: Prober,
        relay: Relay,
        waiter: Waiter,
        life: Life,
        shutdown_timeout_s: float,
    ) -> None:
        self._source = source
        self._admission = admission
        self._batcher = batcher
        self._dispatcher = dispatcher
        self._committer = committer
        self._measures = measures
        self._verifier = verifier
        self._reporter = reporter
        self._prober = prober
        self._relay = relay
        self._waiter = waiter
        self._life = life
        self._shutdown_timeout_s = shutdown_timeout_s
        self._stopping = Event()
        self._fenced: str | None = None
        self._next_commit = self._next_measure = 0.0
        self.last_tick = time.monotonic()

    def stop(self) -> None:
        """Request a graceful stop. Callable from any thread and from a signal handler."""
        self._stopping.set()

    def fence(self, why: str) -> None:
        """End the worker with FencedError: another one has its id. Callable from any thread."""
        self._fenced = why

    @property
    def committing(self) -> bool:
        """Whether the loop is committing a transaction."""
        return self._committer.busy

    @property
    def joined(self) -> bool:
        """Whether the worker is a member of its consumer group."""
        return self._source.joined

    def run(self) -> None:
        """Run until `stop` is called, then drain and shut down.

        Raises:
            LedgerLostError: the ledger lost data: nothing more is sent.
            KafkaException: another worker with the same id fenced this one, or Kafka failed
                fatally.
            SourceError: the input cannot be read.
            BreakerError: most records are dead letters.
        """
        is_fenced = False
        try:
            self._source.start(self._verifier.check_arrived, self._finish_revoked)
            self._prober.start()
            self._relay.start()
            self._life.enter(WorkerState.RUNNING)
            self.last_tick = time.monotonic()
            while not self._stopping.is_set():
                self._tick()
            self._drain()
        except (KafkaException, FencedError) as error:
            is_fenced = isinstance(error, FencedError) or transactions.is_fenced(error.args[0])
            raise
        finally:
            self._waiter.stop()
            self._dispatcher.close()
            self._verifier.say_last(self._reporter.ended(fenced=is_fenced))
            self._verifier.close()
            self._source.close()
            self._committer.close()

    def join(self) -> None:
        """Wait for what runs beside the loop, once `run` has returned."""
        self._relay.join(_RELAY_END_S)

    def _tick(self) -> None:
        now = self.last_tick = time.monotonic()
        if self._fenced is not None:
            raise FencedError(self._fenced)
        polled = self._admission.poll(now)
        started = time.thread_time()
        self._admission.admit(polled)
        self._dispatcher.dispatch(time.monotonic())
        metrics.TICK.observe(time.thread_time() - started)
        self._commit_if_due(time.monotonic())
        if now >= self._next_measure:
            self._next_measure = now + _MEASURE_EVERY_S
            self._measures.measure(now)
            self._verifier.verify(self._source.committed_offsets(), self._reporter.report(now))

    # Committing

    def _commit_if_due(self, now: float) -> None:
        if (
            now >= self._next_commit
            or self._measures.is_much_done()
            or self._committer.in_haste
            or self._source.is_ahead
        ):
            self._committer.commit(self._source.windows)
            self._next_commit = time.monotonic() + _COMMIT_EVERY_S

    def _commit_until(self, windows: Windows, until: float) -> None:
        """Commit all resolved prefixes; what is not committed in time is left to the next owner."""
        while any(window.done_prefix(1) for window in windows.values()):
            if self._committer.commit(windows):
                continue
            if time.monotonic() >= until:
                logger.warning(
                    "cannot commit all resolved records in time, leaving them to the next owner"
                )
                return
            time.sleep(POLL_S)

    # Rebalances

    def _finish_revoked(self, windows: Windows) -> None:
        """Before partitions are revoked: drop queued records, finish and commit those in flight."""
        undone = [record for window in windows.values() for record in window.unresolved()]
        queued = self._batcher.discard(undone)
        begun = [record for record in undone if id(record) not in queued]
        with metrics.REVOKE_DRAIN.time():
            until = time.monotonic() + _REVOKE_DRAIN_S
            while time.monotonic() < until and any(r.resolution is None for r in begun):
                time.sleep(0.005)
        # The next owner, or the next commit, will raise the same error.
        with suppress(BreakerError, KafkaException):
            self._commit_until(windows, time.monotonic() + _REVOKE_COMMIT_S)

    # Shutdown

    def _drain(self) -> None:
        """Finish what is in flight or leave it to the next owner, and commit."""
        self._life.enter(WorkerState.DRAINING)
        until = time.monotonic() + self._shutdown_timeout_s
        self._source.pause()
        self._batcher.clear()
        while self._dispatcher and time.monotonic() < until:
            self.last_tick = time.monotonic()
            self._source.poll(POLL_RECORDS, POLL_S)
            self._dispatcher.dispatch(self.last_tick)
            self._batcher.clear()
            self._commit_if_due(time.monotonic())
        if self._dispatcher:
            logger.warning(
                "batches still in flight, leaving them to the next owner",
                extra={"batches": len(self._dispatcher)},
            )
        self._waiter.stop()
        windows = self._source.windows
        self._source.pass_markers()
        self._commit_until(windows, time.monotonic() + _REVOKE_COMMIT_S)
        if any(window.is_behind for window in windows.values()):
            self._committer.commit(windows)
        self._verifier.keep(self._source.committed_offsets())
