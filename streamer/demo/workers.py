"""The demo's workers: started as anybody would, with `streamer run`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import urllib3

from streamer.demo.histogram import Buckets, parse
from streamer.stack import Stack
from streamer.stack.guard import Guard
from streamer.stack.ports import free_port, port_is_free

if TYPE_CHECKING:
    import psutil  # of the extra `stack`, which production has not: all commands import this file

_STOP_S = 40.0
_LAST_LINES = 15
_SUPPRESSION_CHECK = "streamer_suppression_check_seconds"


class Workers:
    """A supervisor and its workers; for one worker, there is no supervisor.

    Args:
        log: the file that their log goes to.
        guard: who ends them when this process is killed.
        count: of workers.
    """

    def __init__(self, stack: Stack, api_url: str, log: Path, guard: Guard, count: int) -> None:
        self._log = log
        self._ports = _free_ports(count)
        self._checks: dict[tuple[int, float], Buckets] = {}
        with log.open("ab") as stream:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "streamer", "run", "--workers", str(count)],
                env=_environment(stack, api_url, count, self._ports[0]),
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
        """Whether the process that was started runs."""
        return self._process.poll() is None

    def await_ready(self, seconds: float, give_up: Callable[[], bool]) -> bool:
        """Wait until every worker is a member of the group; False if that does not come."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.alive and not give_up():
            if all(self._get(port, "/readyz") is not None for port in self._ports):
                return True
            time.sleep(0.05)
        return False

    def kill_one(self) -> int | None:
        """`kill -9` one worker; its supervisor will notice. Returns its process id."""
        from psutil import Error

        self.suppression_checks()  # the last that will be heard of its own
        for child in self._supervisor.children():
            with suppress(Error):  # one that ended meanwhile
                # multiprocessing's own helper is a child too, and is no worker.
                if "spawn_main" in " ".join(child.cmdline()):
                    child.kill()
                    return child.pid
        return None

    def suppression_checks(self) -> Buckets:
        """How long the suppression checks took so far, of all workers, killed ones included."""
        for port in self._ports:
            exposition = self._get(port, "/metrics")
            if exposition is not None:
                began, buckets = parse(exposition, _SUPPRESSION_CHECK)
                self._checks[port, began] = buckets
        total: Buckets = Counter()
        for buckets in self._checks.values():
            total.update(buckets)
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
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-_LAST_LINES:])

    def _get(self, port: int, path: str) -> str | None:
        try:
            answer = self._http.request("GET", f"http://127.0.0.1:{port}{path}")
        except urllib3.exceptions.HTTPError:
            return None
        return answer.data.decode() if answer.status == 200 else None


def _environment(stack: Stack, api_url: str, count: int, port: int) -> dict[str, str]:
    """Settings as a user would give them; those of whoever runs the demo are none of its."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.upper().startswith(("STREAMER_", "RESEND_"))
    }
    return inherited | {
        "STREAMER_KAFKA__BOOTSTRAP_SERVERS": stack.bootstrap_servers,
        # The one that is killed should be missed soon.
        "STREAMER_KAFKA__PROPERTIES": json.dumps(
            {"session.timeout.ms": 4000, "heartbeat.interval.ms": 1000}
        ),
        "STREAMER_REDIS__URL": stack.redis_url,
        "STREAMER_WORKER__ID": f"demo-{count}",
        "STREAMER_METRICS__PORT": str(port),
        "STREAMER_PROGRESS__EMBEDDED": "false",
        "STREAMER_UNSUBSCRIBE__BASE_URL": "https://example.com/u",
        "STREAMER_UNSUBSCRIBE__SECRET": "known to every reader of this demo",
        "RESEND_API_URL": api_url,
        "RESEND_API_KEY": "re_sandbox",
    }


def _free_ports(count: int) -> list[int]:
    """Neighbouring ports, as worker i takes the first one's number + i."""
    while True:
        first = free_port()
        ports = list(range(first, first + count))
        if all(map(port_is_free, ports)):
            return ports
