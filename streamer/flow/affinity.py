"""Decides on which CPU a worker's threads run. No I/O.

They compute one at a time, since they share the interpreter's lock. Spread over several CPUs they
pay for each change: what one has just used is in the other CPU's cache. Together on one they are
cheaper, unless none is idle: then it takes them all to use up what is left of each.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import NamedTuple

_FULL = 0.9
_ROOM = 0.25
"""The share of a CPU from which on it is worthwhile to keep to one, or to move there."""
_MOVES = 0.5


class Usage(NamedTuple):
    """What was used of the CPUs up to a time, in seconds.

    Attributes:
        at: the time.
        own: what this process used, of whichever CPU.
        cpus: by number, what all processes used of a CPU; empty if nobody looked.
    """

    at: float
    own: float
    cpus: Mapping[int, float]


def choose_cpu(
    before: Usage,
    now: Usage,
    current: int | None,
    cores: Mapping[int, str],
    draw: Callable[[], float],
) -> int | None:
    """Return the CPU to keep all threads on, or None for any.

    A worker leaves a CPU where others take much of what it could use, for one where it gets
    noticeably more. It does so at every second look, by chance: otherwise two workers that meet on
    a CPU would leave it together, and meet again.

    Args:
        current: the CPU that the threads are kept on, or None.
        cores: the core of each CPU; those that share one slow each other down.
        draw: returns a random number in [0, 1).
    """
    elapsed = now.at - before.at
    own = (now.own - before.own) / elapsed
    used = {
        cpu: (now.cpus[cpu] - before.cpus[cpu]) / elapsed
        for cpu in now.cpus.keys() & before.cpus.keys()
    }
    if not used:
        return current
    # Less than this process used alone? Some sandboxes show the CPUs as idle, whatever they do.
    if sum(used.values()) < own / 2:
        return None
    of_core: defaultdict[str, float] = defaultdict(float)
    for cpu, share in used.items():
        of_core[cores[cpu]] += share
    idlest = min(used, key=lambda cpu: (of_core[cores[cpu]], used[cpu]))
    if current not in used:
        idle = len(used) - sum(used.values())
        return idlest if idle >= _ROOM else None
    if used[current] < _FULL:
        return current
    if min(used.values()) >= _FULL:
        return None
    others = used[current] - own
    return idlest if others - used[idlest] >= _ROOM and draw() < _MOVES else current
