"""A worker with injectable Kafka faults: `python -m tests.faults.worker NUMBER PORT`.

PORT is that of a `KafkaReferee`; 0 injects no faults.
"""

import ctypes
import os
import signal
import sys

from streamer.settings import load
from streamer.worker.process import run_worker
from tests.kit import kafka_faults

_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Have this process killed when its parent process ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() == 1:  # the parent ended before prctl took effect
        sys.exit(1)


def main() -> int:
    """Run the worker; it is killed when its parent process ends."""
    die_with_parent()
    number, port = int(sys.argv[1]), int(sys.argv[2])
    if port:
        kafka_faults.put_into_modules(port)
    return run_worker(load(), number)


if __name__ == "__main__":
    sys.exit(main())
