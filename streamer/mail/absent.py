"""What stands in for the undefined in a template, where the engine would take it for a value.

`streamer.mail.language` says where. To the engine they are objects like others, so that a template
renders as ever; afterwards it is known whether one was used.
"""

from threading import local

KIND = "plain object"
"""What the engine's errors call a stand-in."""


class Glimpse(local):
    """Which stand-in a thread's rendering looked at first; None if at none."""

    position: int | None = None


class Absent:
    """Stands in for what an expression of a template lacks, and tells when it is looked at.

    A filter that takes anything asks it for its text or its truth, or compares it; others fail, as
    it is a `KIND`, which no variable is.

    Args:
        position: of the stand-in, from 1 on.
    """

    __slots__ = ("_glimpse", "_position")

    def __init__(self, position: int, glimpse: Glimpse) -> None:
        self._position = position
        self._glimpse = glimpse

    def __str__(self) -> str:
        self._look()
        return ""

    def __bool__(self) -> bool:
        self._look()
        return False

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, AnyAbsent):
            return False
        self._look()
        return True

    def __hash__(self) -> int:
        return hash(self._position)

    def _look(self) -> None:
        if self._glimpse.position is None:
            self._glimpse.position = self._position


class AnyAbsent:
    """Equal to each stand-in, which learns of it, and to nothing else.

    Where a rendering fails, the engine writes down all that it knows: as this stands first among
    the stand-ins it tells that none of them was looked at before.
    """

    __slots__ = ("_glimpse",)

    def __init__(self, glimpse: Glimpse) -> None:
        self._glimpse = glimpse

    def __str__(self) -> str:
        if self._glimpse.position is None:
            self._glimpse.position = 0
        return ""
