"""The entry point of `streamer` and of `python -m streamer`."""

import sys

from streamer.errors import INTERRUPTED


def main() -> None:
    """Run the command line interface."""
    try:
        # Takes most of a short command's time: a Ctrl-C meanwhile would show where.
        from streamer.cli import main as run
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    run()


if __name__ == "__main__":
    main()
