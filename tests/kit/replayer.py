"""A replay that kills itself at a checkpoint: `python -m tests.kit.replayer CHECKPOINT NTH`."""

import itertools
import os
import signal
import sys

from streamer.cli.reading import topic_reader
from streamer.recovery.dead_letters import DeadLetterFilter
from streamer.recovery.replay import Replayer
from streamer.settings import load


def main() -> None:
    """Replay all dead letters; SIGKILL this process at the NTH pass of CHECKPOINT."""
    fatal, nth = sys.argv[1], int(sys.argv[2])
    passes = itertools.count(1)

    def checkpoint(name: str) -> None:
        if name == fatal and next(passes) == nth:
            os.kill(os.getpid(), signal.SIGKILL)

    settings = load()
    with topic_reader(settings) as reader:
        Replayer(settings, reader, DeadLetterFilter()).run(checkpoint)


if __name__ == "__main__":
    main()
