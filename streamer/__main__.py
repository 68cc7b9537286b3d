"""The entry point of `streamer` and of `python -m streamer`."""

import os
import signal
from types import FrameType

from streamer.errors import INTERRUPTED


def main() -> None:
    """Run the command line interface."""
    # The imports take most of a short command's time. An exception raised in one of them by Ctrl-C
    # would be shown, and may come out as another.
    previous = signal.getsignal(signal.SIGINT)
    if previous is signal.default_int_handler:  # and is not ignored, as in the background
        signal.signal(signal.SIGINT, _end)
    from streamer.cli import main as run

    signal.signal(signal.SIGINT, previous)
    run()


def _end(number: int, frame: FrameType | None) -> None:
    del number, frame
    os._exit(INTERRUPTED)


if __name__ == "__main__":
    main()
