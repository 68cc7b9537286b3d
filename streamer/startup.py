"""Imports that Ctrl-C ends without a traceback."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from streamer.errors import INTERRUPTED


@contextmanager
def quiet_imports() -> Iterator[None]:
    """Let Ctrl-C end the process at once within the block, which imports modules.

    Imports take most of a short command's time. An exception raised in one of them would be shown,
    and may come out as another. Where the interrupt is ignored, as in the background of a script,
    or handled, nothing changes.
    """
    previous = signal.getsignal(signal.SIGINT)
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or previous is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, _end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def _end(number: int, frame: FrameType | None) -> None:
    del number, frame
    os._exit(INTERRUPTED)
