"""The demo's workers, started with `streamer run` as in production."""

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
from streamer.sandbox import DEFAULT_WEBHOOK_SECRET
from streamer.stack import Stack
from streamer.stack.ports import free_port, port_is_free
from streamer.stack.reaper import ProcessReaper

if TYPE_CHECKING:
    import psutil  # in the extra `stack`; not in production, where all commands import this file

UNSUBSCRIBE_SECRET = "known to every reader of this demo"  # noqa: S105 - as it says

_STOP_S = 40.0
_LAST_LINES = 15
_SUPPRESSION_CHECK = "streamer_suppression_check_seconds"


class Workers:
    """A supervisor and its workers; a single worker runs without a supervisor.

    Args:
        stack: Kafka and Redis.
        api_url: the URL of the sandbox.
        gateway_url: the URL of the gateway.
        log: the log file.
        reaper: kills the workers when this process is killed.
        count: number of workers.
    """

    def __init__(
        self,
        stack: Stack,
        api_url: str,
        gateway_url: str,
        log: Path,
        reaper: ProcessReaper,
        count: int,
    ) -> None:
        self._log = log
        self._ports = _free_ports(count)
        self._checks: dict[tuple[int, float], Buckets] = {}
        with log.open("ab") as stream:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "streamer", "run", "--workers", str(count)],
                env=_environment(stack, api_url, count, self._ports[0], gateway_url),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                process_group=reaper.group,  # Ctrl-C must only reach us, to stop them cleanly
            )
        # psutil is installed, since the stack needs the same extra.
        from psutil import Process

        self._supervisor = Process(self._process.pid)
        self._http = urllib3.PoolManager(retries=False, timeout=2.0)

    @property
    def alive(self) -> bool:
        """Whether the started process is running."""
        return self._process.poll() is None

    def await_ready(self, seconds: float, give_up: Callable[[], bool]) -> bool:
        """Wait until every worker is a member of the group; False on timeout or if given up."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.alive and not give_up():
            if all(self._get(port, "/readyz") is not None for port in self._ports):
                return True
            time.sleep(0.05)
        return False

    def kill_one(self) -> int | None:
        """Kill one worker with SIGKILL, and return its process id; None if there is none."""
        from psutil import Error

        self.suppression_checks()  # save its metrics
        for child in self._supervisor.children():
            with suppress(Error):  # the child may have ended
                # Skip the helper process of multiprocessing, which is also a child.
                if "spawn_main" in " ".join(child.cmdline()):
                    child.kill()
                    return child.pid
        return None

    def suppression_checks(self) -> Buckets:
        """Return the durations of suppression checks of all workers so far, even killed ones."""
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
        """Stop the workers; kill them if that takes too long."""
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
        """Return the end of the log."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-_LAST_LINES:])

    def _get(self, port: int, path: str) -> str | None:
        try:
            answer = self._http.request("GET", f"http://127.0.0.1:{port}{path}")
        except urllib3.exceptions.HTTPError:
            return None
        return answer.data.decode() if answer.status == 200 else None


class DemoGateway:
    """`streamer gateway`, to which the sandbox sends webhooks.

    Args:
        stack: gives Kafka.
        log: the log file.
        reaper: kills the gateway when this process is killed.

    Attributes:
        url: where it listens.
    """

    def __init__(self, stack: Stack, log: Path, reaper: ProcessReaper) -> None:
        with log.open("ab") as stream:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "streamer", "gateway", "--port", "0"],
                env=_environment(stack, "", 0, 0, "")
                | {
                    "STREAMER_ACCOUNTS__DEFAULT__WEBHOOK_SECRET_ENV": "DEMO_WEBHOOK_SECRET",
                    "DEMO_WEBHOOK_SECRET": DEFAULT_WEBHOOK_SECRET,
                },
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stream,
                process_group=reaper.group,
            )
        assert self._process.stdout is not None
        line = self._process.stdout.readline().decode()
        self.url = line.rpartition(" ")[2].strip()

    @property
    def is_up(self) -> bool:
        """Whether it has started."""
        return self.url.startswith("http")

    def stop(self) -> None:
        """Stop the gateway; kill it if that takes too long."""
        self._process.terminate()
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


def _environment(
    stack: Stack, api_url: str, count: int, port: int, gateway_url: str
) -> dict[str, str]:
    """Return the settings, ignoring those in the user's environment."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.upper().startswith(("STREAMER_", "RESEND_"))
    }
    return inherited | {
        "TMPDIR": str(stack.folder),  # removed at the end, with what a killed worker leaves
        "STREAMER_KAFKA__BOOTSTRAP_SERVERS": stack.bootstrap_servers,
        # Short, so that the group soon notices the killed worker.
        "STREAMER_KAFKA__PROPERTIES": json.dumps(
            {"session.timeout.ms": 4000, "heartbeat.interval.ms": 1000}
        ),
        "STREAMER_REDIS__URL": stack.redis_url,
        "STREAMER_WORKER__ID": f"demo-{count}",
        "STREAMER_METRICS__PORT": str(port),
        "STREAMER_UNSUBSCRIBE__BASE_URL": f"{gateway_url or 'https://example.com'}/u",
        "STREAMER_UNSUBSCRIBE__SECRET": UNSUBSCRIBE_SECRET,
        "RESEND_API_URL": api_url,
        "RESEND_API_KEY": "re_sandbox",
    }


def _free_ports(count: int) -> list[int]:
    """Return consecutive free ports, since worker i uses the first port + i."""
    while True:
        first = free_port()
        ports = list(range(first, first + count))
        if all(map(port_is_free, ports)):
            return ports
