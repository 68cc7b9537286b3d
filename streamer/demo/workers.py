"""The demo's workers: started as anybody would, with `streamer run`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import urllib3

from streamer.stack import Stack
from streamer.stack.guard import Guard
from streamer.stack.ports import free_port, port_is_free

if TYPE_CHECKING:
    import psutil  # of the extra `stack`, which production has not: all commands import this file

_STOP_S = 40.0
_BUCKET = "streamer_suppression_check_seconds_bucket"


class Workers:
    """A supervisor and its workers.

    Args:
        count: of workers.
        log: the file that their log goes to.
        guard: who ends them when this process is killed.
    """

    def __init__(self, stack: Stack, api_url: str, count: int, log: Path, guard: Guard) -> None:
        self.log = log
        self._ports = _free_ports(count)
        environment = os.environ | {
            "STREAMER_KAFKA__BOOTSTRAP_SERVERS": stack.bootstrap_servers,
            # The one that is killed should be missed soon.
            "STREAMER_KAFKA__PROPERTIES": json.dumps(
                {"session.timeout.ms": 4000, "heartbeat.interval.ms": 1000}
            ),
            "STREAMER_REDIS__URL": stack.redis_url,
            "STREAMER_WORKER__ID": f"demo-{count}",
            "STREAMER_METRICS__PORT": str(self._ports[0]),
            "STREAMER_UNSUBSCRIBE__BASE_URL": "https://example.com/unsubscribe",
            "STREAMER_UNSUBSCRIBE__SECRET": "known to every reader of this demo",
            "RESEND_API_URL": api_url,
            "RESEND_API_KEY": "re_sandbox",
        }
        environment.pop("STREAMER_CONFIG", None)
        with log.open("ab") as stream:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "streamer", "run", "--workers", str(count)],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                process_group=guard.group,  # a Ctrl-C is for us: we end them in order
            )
        # Its module is there, as the stack was started with the same extra.
        from psutil import Process

        self._supervisor = Process(self._process.pid)
        self._http = urllib3.PoolManager(retries=False, timeout=2.0)

    @property
    def alive(self) -> bool:
        """Whether the supervisor runs."""
        return self._process.poll() is None

    def await_ready(self, seconds: float, give_up: Callable[[], bool]) -> bool:
        """Wait until every worker is a member of the group; False if that does not come."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.alive and not give_up():
            if all(self._get(port, "/readyz") is not None for port in self._ports):
                return True
            time.sleep(0.05)
        return False

    def kill_one(self) -> bool:
        """`kill -9` one worker; its supervisor will notice."""
        from psutil import Error

        for child in self._supervisor.children():
            with suppress(Error):  # one that ended meanwhile
                # multiprocessing's own helper is a child too, and is no worker.
                if "spawn_main" in " ".join(child.cmdline()):
                    child.kill()
                    return True
        return False

    def suppression_buckets(self) -> dict[float, float]:
        """The suppression check's histogram of all workers: cumulated counts, by upper bound."""
        total: dict[float, float] = {}
        for port in self._ports:
            for line in (self._get(port, "/metrics") or "").splitlines():
                if line.startswith(_BUCKET):
                    bound = float(line.split('le="')[1].split('"')[0])
                    total[bound] = total.get(bound, 0.0) + float(line.rsplit(" ", 1)[1])
        return total

    def stop(self) -> None:
        """End them: in good order, or, if that takes too long, at once."""
        from psutil import NoSuchProcess

        family: list[psutil.Process] = []
        with suppress(NoSuchProcess):
            family = [self._supervisor, *self._supervisor.children(recursive=True)]
        if self.alive:
            self._process.terminate()
            try:
                self._process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        for process in family:
            with suppress(NoSuchProcess):
                process.kill()
        self._http.clear()

    def last_words(self) -> str:
        """The end of their log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])

    def _get(self, port: int, path: str) -> str | None:
        try:
            answer = self._http.request("GET", f"http://127.0.0.1:{port}{path}")
        except urllib3.exceptions.HTTPError:
            return None
        return answer.data.decode() if answer.status == 200 else None


def quantile(buckets: dict[float, float], share: float) -> float:
    """A quantile of a histogram, in its unit; a straight line is drawn within a bucket."""
    total = max(buckets.values(), default=0.0)
    below, lower = 0.0, 0.0
    for bound, count in sorted(buckets.items()):
        if count >= share * total and total:
            if bound == float("inf"):
                return lower
            inside = (share * total - below) / (count - below) if count > below else 1.0
            return lower + (bound - lower) * inside
        below, lower = count, bound
    return 0.0


def _free_ports(count: int) -> list[int]:
    """Neighbouring ports, as worker i takes the first one's number + i."""
    while True:
        first = free_port()
        ports = list(range(first, first + count))
        if all(map(port_is_free, ports)):
            return ports
