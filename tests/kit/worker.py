"""A worker that kills itself: `python -m tests.kit.worker NUMBER [CHECKPOINT NTH]`.

STREAMER_TEST_STANDSTILL_S: after how many seconds its watchdog ends it.
"""

import itertools
import os
import signal
import sys

from streamer.settings import load
from streamer.worker import process
from streamer.worker.process import run_worker


def main() -> int:
    """Run the worker; at the NTH time that it passes CHECKPOINT it is gone."""
    number = int(sys.argv[1])
    standstill = os.environ.get("STREAMER_TEST_STANDSTILL_S")
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
