"""Kills servers when the process that started them ends, however it ends.

A watcher process reads from a pipe that the system closes when its owner ends. The servers run in
the watcher's process group, so that none is missed, and no unrelated process that reuses a pid is
killed.

The watcher runs this file as a script without site packages, so it imports only the standard
library.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

_GONE_S = 10.0


class ProcessReaper:
    """Watches the processes started with `process_group=guard.group`.

    A process that the owner forks without exec inherits the pipe, so the watcher waits for that
    process too.

    Args:
        folder: removed when the owner has ended.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._watcher = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, *([str(folder)] if folder else [])],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            process_group=0,  # Ctrl-C must only reach the owner, which stops its servers cleanly
        )

    @property
    def group(self) -> int:
        """The watched process group."""
        return self._watcher.pid

    def dismiss(self) -> None:
        """Stop watching, after the servers have ended and their folder was removed."""
        self._watcher.kill()
        self._watcher.wait()
        if self._watcher.stdin is not None:
            self._watcher.stdin.close()


def _watch(folders: list[str]) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sys.stdin.buffer.read()  # returns when the owner has ended
    group = os.getpgrp()
    if os.fork():
        # Keep the group's id in use until the child has killed the group, including this process.
        while True:
            signal.pause()
    os.setpgid(0, 0)
    deadline = time.monotonic() + _GONE_S
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)
        while time.monotonic() < deadline:
            os.killpg(group, 0)
            time.sleep(0.02)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    _watch(sys.argv[1:])
