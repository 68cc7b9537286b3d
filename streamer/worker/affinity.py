"""Keeps a worker's threads together on one CPU, wherever there is room."""

import os
import random
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from itertools import takewhile
from pathlib import Path

from streamer.flow.affinity import Usage, choose_cpu

_STAT, _THREADS = Path("/proc/stat"), Path("/proc/self/task")
_CPUS = Path("/sys/devices/system/cpu")
_LOOK_EVERY_S = 1.0
# One that computes less has nothing to gain, and would look in vain all day.
_BUSY = 0.1


class CpuAffinity:
    """Moves all threads of this process to one of the CPUs that it may use.

    On Linux, and where there are several; elsewhere it does nothing, nor where a container numbers
    them anew. What the kernel does not allow is left as it is: this is for speed alone.
    """

    def __init__(self) -> None:
        self._allowed: set[int] = set()
        if sys.platform == "linux":
            self._allowed = os.sched_getaffinity(0)
        self._cores = {cpu: _core(cpu) for cpu in self._allowed}
        self._current: int | None = None
        self._before = Usage(time.monotonic(), time.process_time(), _used(self._allowed))
        if self._before.cpus.keys() != self._allowed:
            self._allowed = set()

    def look(self) -> None:
        """Look whether there is more room on another CPU, at most once a second."""
        now = Usage(time.monotonic(), time.process_time(), {})
        elapsed = now.at - self._before.at
        if len(self._allowed) < 2 or elapsed < _LOOK_EVERY_S:
            return
        is_idle = now.own - self._before.own < _BUSY * elapsed
        if self._current is None or not is_idle:
            now = now._replace(cpus=_used(self._allowed))
            self._current = choose_cpu(self._before, now, self._current, self._cores, random.random)
            _keep_on(self._allowed if self._current is None else [self._current])
        self._before = now


def _core(cpu: int) -> str:
    """Return the same text for all CPUs that are threads of one core."""
    with suppress(OSError):
        siblings = _CPUS / f"cpu{cpu}" / "topology" / "thread_siblings_list"
        return siblings.read_text(encoding="ascii")
    return str(cpu)


def _used(cpus: set[int]) -> dict[int, float]:
    """Return the seconds for which these CPUs were not idle, from `proc_stat(5)`; without those of
    which it says nothing."""
    used: dict[int, float] = {}
    with suppress(OSError), _STAT.open(encoding="ascii") as lines:
        ticks_per_s = os.sysconf("SC_CLK_TCK")
        for line in takewhile(lambda line: line.startswith("cpu"), lines):
            name, *fields = line.split()
            number = name.removeprefix("cpu")
            if number and int(number) in cpus:  # the first line is the sum of all
                user, nice, system, _, _, irq, softirq, steal, *_ = map(int, fields)
                used[int(number)] = (user + nice + system + irq + softirq + steal) / ticks_per_s
    return used


def _keep_on(cpus: Iterable[int]) -> None:
    """Threads that are started from now on inherit it."""
    with suppress(OSError):
        for thread in _THREADS.iterdir():
            with suppress(ProcessLookupError):  # it has ended meanwhile
                os.sched_setaffinity(int(thread.name), cpus)
