"""Ctrl-C and SIGTERM, handled only where that is safe."""

import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Self, TypeVar

from streamer.errors import INTERRUPTED
from streamer.kafka.writing import Checkpoint

_T = TypeVar("_T")
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """Catches SIGINT and SIGTERM within its block.

    An exception raised at any point would also come out of the Kafka client's callbacks, as a
    SystemError. So a signal only raises while something is read, where it may have to end a wait;
    otherwise it takes effect before the next read.

    Attributes:
        count: number of signals so far.
        exit_code: exit code for the last of them.
    """

    def __init__(self) -> None:
        self.count = 0
        self.exit_code = INTERRUPTED
        self._is_reading = False
        self._previous: dict[int, object] = {}

    def __enter__(self) -> Self:
        self._previous = {number: signal.signal(number, self._on_signal) for number in _SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal() returned

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Let a signal raise KeyboardInterrupt within the block, as where an answer is awaited."""
        self._is_reading = True
        try:
            yield
        finally:
            self._is_reading = False

    def check(self) -> None:
        """Raise KeyboardInterrupt if a signal arrived."""
        if self.count:
            raise KeyboardInterrupt

    def reading(self, items: Iterable[_T]) -> Iterator[_T]:
        """Iterate over items that are read from somewhere.

        Raises:
            KeyboardInterrupt: a signal arrived.
        """
        iterator = iter(items)
        while True:
            self._is_reading = True
            try:
                self.check()
                item = next(iterator)
            except StopIteration:
                return
            finally:
                self._is_reading = False
            yield item

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        del frame
        self.count += 1
        self.exit_code = 128 + number
        if self._is_reading:
            raise KeyboardInterrupt


def safe_points(interrupts: Interrupts) -> Checkpoint:
    """Return a checkpoint at which a signal ends a command, outside of any transaction."""

    def checkpoint(name: str) -> None:
        if name == "before_transaction":
            interrupts.check()

    return checkpoint
