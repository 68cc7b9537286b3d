"""The only fault-injection seam: named points in a batch's life where tests kill the process."""

from collections.abc import Callable

Checkpoint = Callable[[str], None]
"""Called with the point's name."""


def no_checkpoint(name: str) -> None:
    """Do nothing; the checkpoint of production."""
