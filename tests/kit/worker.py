"""A worker that can kill itself: `python -m tests.kit.worker NUMBER [CHECKPOINT NTH]`.

TESTS_STANDSTILL_S sets the number of seconds after which its watchdog ends it.
"""

import itertools
import os
import signal
import sys

from streamer.settings import load
from streamer.worker import process
from streamer.worker.process import run_worker


def main() -> int:
    """Run the worker; SIGKILL this process at the NTH pass of CHECKPOINT."""
    number = int(sys.argv[1])
    standstill = os.environ.get("TESTS_STANDSTILL_S")
    if standstill is not None:
        process._STANDSTILL_CHECKS = int(standstill)
    if len(sys.argv) == 2:
        return run_worker(load(), number)
    fatal, nth = sys.argv[2], int(sys.argv[3])
    passes = itertools.count(1)

    def checkpoint(name: str) -> None:
        if name == fatal and next(passes) == nth:
            os.kill(os.getpid(), signal.SIGKILL)

    return run_worker(load(), number, checkpoint)


if __name__ == "__main__":
    sys.exit(main())
