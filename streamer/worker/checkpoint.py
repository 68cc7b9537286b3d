"""The one seam for faults: named points of a batch's life, where tests kill the process."""

from collections.abc import Callable

Checkpoint = Callable[[str], None]
"""Is called with a point's name."""


def no_checkpoint(name: str) -> None:
    """Production has none."""
