"""Placeholders for undefined values in a template, where the engine would not raise for them.

`streamer.mail.language` inserts them. To the engine they are ordinary objects, so the template
renders as usual; afterwards it is known whether one was used.
"""

from threading import local

KIND = "plain object"
"""The engine's name for a placeholder in its error messages."""


class Glimpse(local):
    """The first placeholder used in this thread's rendering; None if none was."""

    position: int | None = None


class Absent:
    """Placeholder for an undefined expression in a template; records its use.

    A filter that accepts any value uses its text or its truth, or compares it; other filters fail,
    since it is a `KIND`, which no variable is.

    Args:
        position: the number of the placeholder, from 1.
        glimpse: where its use is recorded.
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
    """Equal to every placeholder, which records the comparison, and to nothing else.

    When rendering fails, the engine converts all its variables to text, placeholders included.
    This one comes first and then records that none had been used before.
    """

    __slots__ = ("_glimpse",)

    def __init__(self, glimpse: Glimpse) -> None:
        self._glimpse = glimpse

    def __str__(self) -> str:
        if self._glimpse.position is None:
            self._glimpse.position = 0
        return ""
