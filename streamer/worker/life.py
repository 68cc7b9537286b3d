"""The state that a worker is in, for its port, its metrics and its log."""

import logging
from enum import StrEnum
from threading import Lock

from streamer import metrics
from streamer.worker.waiter import Waiter

logger = logging.getLogger(__name__)


class WorkerState(StrEnum):
    """A worker's states, in their order.

    Attributes:
        WAITING_FOR_REDIS: a thread can do nothing without it; what was `starting` or `running`
            is so again when Redis is back.
        DRAINING: no more records are taken; what is in flight is finished or handed over.
    """

    STARTING = "starting"
    RUNNING = "running"
    WAITING_FOR_REDIS = "waiting_for_redis"
    DRAINING = "draining"
    STOPPED = "stopped"


_WORDS = {
    WorkerState.STARTING: "starting",
    WorkerState.RUNNING: "running: records are taken",
    WorkerState.WAITING_FOR_REDIS: "waiting for Redis: nothing is sent meanwhile",
    WorkerState.DRAINING: "stopping: no more records are taken",
    WorkerState.STOPPED: "stopped",
}


class Life:
    """One worker's life. It begins as `starting`; any thread may tell it more, or ask."""

    def __init__(self, waiter: Waiter) -> None:
        self._waiter = waiter
        self._lock = Lock()
        self._entered = WorkerState.STARTING
        """By the worker's own course, whether it waits for Redis or not."""
        self._state: WorkerState | None = None
        waiter.on_change = self._update
        self._update()

    @property
    def state(self) -> WorkerState:
        """The state that the worker is in now."""
        return self._state or self._entered

    def enter(self, state: WorkerState) -> None:
        """Go on to a state."""
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
