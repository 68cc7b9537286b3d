"""A child process, with processes of its own, measured from outside."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

import psutil

READY = "ready"
"""The line that the plain loop prints once it has partitions."""

_SAMPLE_S = 0.2
_STOP_S = 60.0
_PROC = Path("/proc")


class BenchError(RuntimeError):
    """A measurement could not be completed; the message says why."""


class MeasuredProcess:
    """Runs `python ARGUMENTS`, and stops it at the end of the `with` block, unless it has ended.

    Args:
        environment: the process's complete environment.

    Raises:
        BenchError: on leaving the block, if the exit code is not 0, nor the process was killed.
    """

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, *arguments],
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )
        self._watched = psutil.Process(self._process.pid)
        self._peaks: dict[int, int] = {}
        self._ended = threading.Event()
        threading.Thread(target=self._sample, name="rss", daemon=True).start()

    def cpu_seconds(self) -> float:
        """User and system time so far of all threads of all processes."""
        times = [process.cpu_times() for process in self._processes()]
        return sum(each.user + each.system for each in times)

    def threads(self) -> int:
        """The number of threads, including librdkafka's."""
        return self._watched.num_threads()

    def peak_rss(self) -> int:
        """Peak memory in bytes of the largest process."""
        return max(map(self._peak, self._processes()))

    def _processes(self) -> list[psutil.Process]:
        return [self._watched, *self._watched.children(recursive=True)]

    def _peak(self, process: psutil.Process) -> int:
        """The kernel's high-water mark where available, else the largest sample."""
        status = _PROC / str(process.pid) / "status"
        if status.exists():
            for line in status.read_text().splitlines():
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
        return self._peaks.get(process.pid, 0)

    def await_line(self, wanted: str) -> None:
        """Wait until the process prints this line.

        Raises:
            BenchError: the process ended first.
        """
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.decode().strip() == wanted:
                return
        raise BenchError(f"the process exited with {self._process.wait()} before it was ready")

    def wait_until(self, condition: Callable[[], bool], every_s: float, at_most_s: float) -> None:
        """Poll until the condition holds.

        Raises:
            BenchError: the process ended, or the time is up.
        """
        until = time.monotonic() + at_most_s
        while not condition():
            if self._process.poll() is not None:
                raise BenchError(f"the process exited with {self._process.returncode}")
            if time.monotonic() > until:
                raise BenchError(f"no progress within {at_most_s:.0f} s")
            time.sleep(every_s)

    def kill(self) -> None:
        """Send SIGKILL, and wait for the end."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> int:
        """Send SIGTERM, and return the exit code."""
        self._ended.set()
        self._process.terminate()
        try:
            return self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()
        finally:
            if self._process.stdout is not None:
                self._process.stdout.close()

    def _sample(self) -> None:
        while not self._ended.wait(_SAMPLE_S):
            try:
                for process in self._processes():
                    rss, before = process.memory_info().rss, self._peaks.get(process.pid, 0)
                    self._peaks[process.pid] = max(rss, before)
            except psutil.NoSuchProcess:
                continue

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        code = self.stop()
        if code not in (0, -signal.SIGKILL) and kind is None:
            raise BenchError(f"the process exited with {code}")


def bare_environment() -> dict[str, str]:
    """This process's environment without the project's settings, which would change results."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("STREAMER_", "RESEND_"))
    }
