"""Decides on which core a worker's threads run. No I/O.

They compute one at a time, since they share the interpreter's lock. Spread over several cores they
pay for each change: what one has just used is in the other core's cache. Together on one core they
are cheaper, unless no core is idle: then it takes them all to use up what is left of each.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

_FULL = 0.9
_ROOM = 0.25
"""The share of a core from which on it is worthwhile to keep to one, or to move there."""
_MOVES = 0.5


class Usage(NamedTuple):
    """What was used of the cores up to a time, in seconds.

    Attributes:
        at: the time.
        own: what this process used, of whichever core.
        cores: by the number of a core, what all processes used of it.
    """

    at: float
    own: float
    cores: Mapping[int, float]


def choose_core(
    before: Usage, now: Usage, current: int | None, draw: Callable[[], float]
) -> int | None:
    """Return the core to keep all threads on, or None for any core.

    A worker leaves a core where others take much of what it could use, for one where it gets
    noticeably more. It does so at every second look, by chance: otherwise two workers that meet on
    a core would leave it together, and meet again.

    Args:
        current: the core that the threads are kept on, or None.
        draw: returns a random number in [0, 1).
    """
    elapsed = now.at - before.at
    used = {
        core: (now.cores[core] - before.cores[core]) / elapsed
        for core in now.cores.keys() & before.cores.keys()
    }
    if not used:
        return current
    idlest = min(used, key=lambda core: used[core])
    idle = len(used) - sum(used.values())
    if current not in used:
        return idlest if idle >= _ROOM else None
    if used[current] < _FULL:
        return current
    if min(used.values()) >= _FULL:
        return None
    others = used[current] - (now.own - before.own) / elapsed
    return idlest if others - used[idlest] >= _ROOM and draw() < _MOVES else current
