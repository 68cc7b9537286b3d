"""Runs several workers on one machine, each a process and a group member of its own."""

import logging
import multiprocessing
import signal
import time
from collections import deque
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import FrameType

from streamer import logs
from streamer.errors import DONE, FAILED, WRONG_USE
from streamer.settings import load
from streamer.worker.identity import with_id
from streamer.worker.process import BROKEN_INPUT, run_worker
from streamer.worker.systemd import notify

logger = logging.getLogger(__name__)

_RESTART_BASE_S = 1.0
_RESTART_CAP_S = 30.0
_GIVE_UP_DEATHS = 5
_GIVE_UP_WITHIN_S = 120.0
_KILL_GRACE_S = 30.0


class Supervisor:
    """Keeps workers running; restarts one that dies, and gives up if one keeps dying.

    Args:
        config: the settings file; each worker rereads it when it starts.
        worker_id: what each worker's id begins with.
        count: number of workers.
    """

    def __init__(self, config: Path | None, worker_id: str, count: int) -> None:
        self._config = config
        self._worker_id = worker_id
        self._settings = load(config)
        self._slots = [_WorkerSlot(number) for number in range(count)]
        self._stopping = False

    def run(self) -> int:
        """Supervise until SIGTERM or SIGINT; return the exit code."""
        logs.configure(self._settings.log, f"{self._worker_id}-supervisor")
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)
        code = DONE
        try:
            while not self._stopping and code == DONE:
                code = self._look_after(time.monotonic())
                notify("READY=1", "WATCHDOG=1", f"STATUS=supervises {len(self._slots)} workers")
                alive = [slot.process.sentinel for slot in self._slots if slot.process]
                wait(alive, timeout=0.2)
        finally:
            notify("STOPPING=1")
            worst = self._stop_all()
        return code or worst

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        del signum, frame
        self._stopping = True

    def _look_after(self, now: float) -> int:
        for slot in self._slots:
            code = slot.reap(now)
            if code == WRONG_USE:
                logger.critical(
                    "invalid settings, or a worker's id is taken; not restarting. See the "
                    "worker's log",
                    extra={"worker": slot.number},
                )
                return WRONG_USE
            if code == BROKEN_INPUT:
                logger.critical(
                    "too many dead letters, not restarting; see the worker's log",
                    extra={"worker": slot.number},
                )
                return FAILED
            if slot.keeps_dying(now):
                logger.critical(
                    "the worker keeps dying, giving up; see its log",
                    extra={"worker": slot.number, "deaths": _GIVE_UP_DEATHS},
                )
                return FAILED
            if slot.process is None and now >= slot.start_at:
                slot.start(self._config, self._worker_id)
        return DONE

    def _stop_all(self) -> int:
        until = time.monotonic() + self._settings.worker.shutdown_timeout_s + _KILL_GRACE_S
        for slot in self._slots:
            if slot.process is not None:
                slot.process.terminate()
        worst = DONE
        for slot in self._slots:
            if slot.process is None:
                continue
            slot.process.join(max(0.0, until - time.monotonic()))
            if slot.process.exitcode is None:
                slot.process.kill()
                slot.process.join()
            # A worker killed by SIGTERM before it installed its handler had nothing in flight.
            if slot.process.exitcode not in (DONE, -signal.SIGTERM):
                worst = FAILED
        return worst


class _WorkerSlot:
    """One worker's place, filled by successive processes."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.process: SpawnProcess | None = None
        self.start_at = 0.0
        self._deaths: deque[float] = deque(maxlen=_GIVE_UP_DEATHS)

    def start(self, config: Path | None, worker_id: str) -> None:
        # Spawned, not forked: librdkafka's threads do not survive a fork.
        self.process = multiprocessing.get_context("spawn").Process(
            target=_worker_main,
            args=(config, worker_id, self.number),
            name=f"worker-{self.number}",
        )
        self.process.start()
        logger.info("worker started", extra={"worker": self.number, "pid": self.process.pid})

    def reap(self, now: float) -> int | None:
        """If the process has died, schedule the next start and return the exit code."""
        if self.process is None or self.process.exitcode is None:
            return None
        code = self.process.exitcode
        self.process = None
        self._deaths.append(now)
        recent = sum(now - death < _GIVE_UP_WITHIN_S for death in self._deaths)
        # None the first time: a worker that was killed is wanted back at once.
        pause = min(_RESTART_CAP_S, _RESTART_BASE_S * (2.0 ** (recent - 1) - 1))
        self.start_at = now + pause
        logger.error(
            "worker died, restarting it",
            extra={"worker": self.number, "exit_code": code, "in_seconds": pause},
        )
        return code

    def keeps_dying(self, now: float) -> bool:
        return len(self._deaths) == _GIVE_UP_DEATHS and now - self._deaths[0] < _GIVE_UP_WITHIN_S


def _worker_main(config: Path | None, worker_id: str, number: int) -> None:
    raise SystemExit(run_worker(with_id(load(config), worker_id), number))
