"""A worker that asks before each call to Kafka: `python -m tests.faults.worker NUMBER PORT`."""

import ctypes
import os
import signal
import sys

from streamer.settings import load
from streamer.worker.process import run_worker
from tests.kit import kafka_faults

_PR_SET_PDEATHSIG = 1


def main() -> int:
    """Run the worker; it ends with whoever started it."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() == 1:  # it ended before this was listening
        return 1
    number, port = int(sys.argv[1]), int(sys.argv[2])
    if port:
        kafka_faults.put_into_modules(port)
    return run_worker(load(), number)


if __name__ == "__main__":
    sys.exit(main())
