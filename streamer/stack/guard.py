"""Ends servers when the process that started them is gone, however it went.

A watcher process holds the other end of a pipe, which the system closes when its owner ends. The
servers live in the watcher's process group, so that none of them can be missed, nor can a process
be hit which was given the number of one that has ended.

The watcher runs this file as a script, without the site's packages: it imports nothing but the
standard library.
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


class Guard:
    """A watcher over the processes that are started with `process_group=guard.group`.

    A process that this one forks, without running another program, holds the pipe too: the
    watcher then waits for that one as well.

    Args:
        folder: removed when the owner is gone.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._watcher = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, *([str(folder)] if folder else [])],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            process_group=0,  # a Ctrl-C is for the owner, which ends its servers in good order
        )

    @property
    def group(self) -> int:
        """The process group under watch."""
        return self._watcher.pid

    def dismiss(self) -> None:
        """Watch no longer: the servers have ended, and their folder is gone."""
        self._watcher.kill()
        self._watcher.wait()
        if self._watcher.stdin is not None:
            self._watcher.stdin.close()


def _watch(folders: list[str]) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sys.stdin.buffer.read()  # until the owner is gone
    group = os.getpgrp()
    if os.fork():
        # Keeps the group's number from being given away until the child has ended the group, and
        # this process with it.
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
