"""What a worker tells others while it works: a heartbeat in Redis, and a line of its log."""

import logging
import os
import resource
import secrets
import socket
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

from streamer import metrics
from streamer.flow.rate import allowed_rate
from streamer.ledger.heartbeats import Heartbeat, Heartbeats
from streamer.settings import Settings
from streamer.worker.account_states import AccountStateCache
from streamer.worker.source import RecordSource

logger = logging.getLogger(__name__)

_BEAT_EVERY_S = 2.0
_SAY_EVERY_S = 30.0
_STATM = Path("/proc/self/statm")


class _Totals(NamedTuple):
    """What was counted until a time in monotonic seconds."""

    at: float
    sent: int
    calls: Mapping[str, int]


class WorkerReporter:
    """Makes the worker's heartbeats and its periodic log line. Owned by the consumer's thread."""

    def __init__(
        self,
        settings: Settings,
        heartbeats: Heartbeats,
        source: RecordSource,
        account_states: AccountStateCache,
        now: float,
    ) -> None:
        self._worker = settings.worker.id
        self._rates = {name: each.requests_per_second for name, each in settings.accounts.items()}
        self._heartbeats = heartbeats
        self._source = source
        self._account_states = account_states
        self._instance = secrets.token_hex(6)
        self._since: int | None = None
        """Set by the thread that writes the heartbeats."""
        self._told = self._beaten = _totals(now)
        self._cpu_s = time.process_time()
        self._committed: Mapping[int, int] = {}
        self._committed_at = now
        self._is_first = True

    def report(self, now: float) -> Callable[[], None] | None:
        """Log a line if one is due; return a call that writes a heartbeat, if one is due.

        Args:
            now: the current time in monotonic seconds.
        """
        committed = self._source.committed_offsets()
        if committed != self._committed or not self._source.held:
            self._committed, self._committed_at = committed, now
        if now - self._told.at >= _SAY_EVERY_S:
            self._say(now)
        if not self._is_first and now - self._beaten.at < _BEAT_EVERY_S:
            return None
        self._is_first = False
        return partial(self._beat, self._heartbeat(now))

    def ended(self, *, fenced: bool) -> Callable[[], None]:
        """Return a call that takes the heartbeat back, or says that another process took the id."""
        if fenced:
            return partial(self._beat, self._heartbeat(time.monotonic(), fenced=True))
        return partial(self._heartbeats.remove, self._instance)

    def _beat(self, heartbeat: Heartbeat) -> None:
        at = self._heartbeats.write(heartbeat.model_copy(update={"since": self._since}))
        if self._since is None:
            self._since = at

    def _heartbeat(self, now: float, *, fenced: bool = False) -> Heartbeat:
        totals, cpu_s = _totals(now), time.process_time()
        passed_s = max(0.001, now - self._beaten.at)
        heartbeat = Heartbeat(
            worker=self._worker,
            instance=self._instance,
            host=socket.gethostname(),
            pid=os.getpid(),
            clock=time.time(),
            partitions=len(self._source.windows),
            waiting=self._source.lag,
            stalled_s=round(now - self._committed_at, 1),
            per_second=round((totals.sent - self._beaten.sent) / passed_s, 1),
            calls_per_second={
                name: round((count - self._beaten.calls.get(name, 0)) / passed_s, 2)
                for name, count in totals.calls.items()
            },
            cpu=round((cpu_s - self._cpu_s) / passed_s, 4),
            rss=_memory(),
            fenced=fenced,
        )
        self._beaten, self._cpu_s = totals, cpu_s
        return heartbeat

    def _say(self, now: float) -> None:
        before, self._told = self._told, _totals(now)
        sent, passed_s = self._told.sent - before.sent, now - before.at
        waiting = self._source.lag
        if not (sent or waiting):
            return
        calls = {
            name: count - before.calls.get(name, 0) for name, count in self._told.calls.items()
        }
        allowed = [
            allowed_rate(rate, self._account_states.limit(name))
            for name, rate in self._rates.items()
            if calls.get(name)
        ]
        logger.info(
            "sending" if sent else "nothing was sent, and records wait",
            extra={
                "sent": sent,
                "per_second": round(sent / passed_s, 1),
                "calls_per_second": round(sum(calls.values()) / passed_s, 1),
                "allowed_calls_per_second": round(sum(allowed), 1),
                "waiting": waiting,
                "held": ", ".join(self._account_states.held()) or "none",
            },
        )


def _totals(now: float) -> _Totals:
    sent = sum(
        count for labels, count in metrics.counts(metrics.OUTCOMES) if labels["status"] == "sent"
    )
    calls: dict[str, int] = {}
    for labels, count in metrics.counts(metrics.API_REQUESTS):
        calls[labels["account"]] = calls.get(labels["account"], 0) + count
    return _Totals(now, sent, calls)


def _memory() -> int:
    """Return the memory of this process in bytes: what it has now, or else the most it had."""
    try:
        return int(_STATM.read_text().split()[1]) * resource.getpagesize()
    except OSError:  # not on Linux
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024
