"""Tracks a worker's state for its endpoints, metrics and log."""

import logging
from enum import StrEnum
from threading import Lock

from streamer import metrics
from streamer.worker.waiter import Waiter

logger = logging.getLogger(__name__)


class WorkerState(StrEnum):
    """A worker's states, in order.

    Attributes:
        WAITING_FOR_REDIS: a thread is blocked on Redis; the worker returns to `starting` or
            `running` when Redis is back.
        DRAINING: no more records are taken; what is in flight is finished or handed over.
    """

    STARTING = "starting"
    RUNNING = "running"
    WAITING_FOR_REDIS = "waiting_for_redis"
    DRAINING = "draining"
    STOPPED = "stopped"


_WORDS = {
    WorkerState.STARTING: "starting",
    WorkerState.RUNNING: "running",
    WorkerState.WAITING_FOR_REDIS: "waiting for Redis, sending is suspended",
    WorkerState.DRAINING: "draining: finishing what is in flight",
    WorkerState.STOPPED: "stopped",
}


class Life:
    """Holds one worker's state, initially `starting`. Thread-safe."""

    def __init__(self, waiter: Waiter) -> None:
        self._waiter = waiter
        self._lock = Lock()
        self._entered = WorkerState.STARTING
        """The state regardless of whether the worker waits for Redis."""
        self._state: WorkerState | None = None
        waiter.on_change = self._update
        self._update()

    @property
    def state(self) -> WorkerState:
        """The current state."""
        return self._state or self._entered

    def enter(self, state: WorkerState) -> None:
        """Change to a state."""
        self._entered = state
        self._update()

    def _update(self) -> None:
        with self._lock:
            before, self._state = self._state, self._found()
            if self._state is before:
                return
            for state in WorkerState:
                metrics.WORKER_STATE.labels(state.value).set(state is self._state)
            logger.info(
                _WORDS[self._state],
                extra={"state": self._state.value, "before": before.value if before else None},
            )

    def _found(self) -> WorkerState:
        may_wait = self._entered in (WorkerState.STARTING, WorkerState.RUNNING)
        if may_wait and self._waiter.redis_problem is not None:
            return WorkerState.WAITING_FOR_REDIS
        return self._entered
