"""Where a worker's CPU time goes: `python -m bench.sampled FILE run` is a sampled `streamer run`.

A thread looks at all other threads every few milliseconds. What a thread has used since the last
look is attributed to the innermost module of the project that it is in, and thereby to a step. What
no thread of Python's has used is librdkafka's. At the end the seconds of each step are written to
FILE as JSON.
"""

import sys
import threading
import time
from collections import defaultdict
from pathlib import Path
from types import FrameType

import orjson

from streamer.cli import app

STEPS = {
    "read": ("streamer.worker.source", "streamer.kafka.headers"),
    "parse": ("streamer.model.event", "streamer.model.address", "streamer.worker.admission"),
    "queue": ("streamer.flow", "streamer.worker.dispatch"),
    "screen": ("streamer.worker.filling", "streamer.worker.decisions", "streamer.worker.batch"),
    "compose": ("streamer.mail",),
    "ledger": ("streamer.ledger",),
    "send": ("streamer.provider", "streamer.worker.calling", "streamer.worker.sending"),
    "commit": ("streamer.worker.committer", "streamer.model.wire", "streamer.kafka.transactions"),
    "progress": ("streamer.progress",),
}
REST, LIBRDKAFKA = "rest", "librdkafka"

_EVERY_S = 0.003
_SWITCH_S = 0.0001
"""How long a thread may keep the interpreter when another asks for it. With the default of 5 ms it
would be seen in its next call to a server instead of where it was."""
_BEGINS_WITH = "sender"
"""The name of the threads with which the work begins; what was before is not counted."""


class Sampler(threading.Thread):
    """Samples the other threads of this process until `end` is called."""

    def __init__(self) -> None:
        super().__init__(name="sampler", daemon=True)
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._used: dict[int, float] = {}
        self._process_s: float | None = None
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.wait(_EVERY_S):
            if self._process_s is None and not _has_begun():
                continue
            self._look()

    def end(self) -> dict[str, float]:
        """Stop, and return the seconds by step."""
        self._ended.set()
        self.join()
        return dict(self.seconds)

    def _look(self) -> None:
        process_s, in_python_s = time.process_time(), 0.0
        for thread, frame in sys._current_frames().items():
            used_s = time.clock_gettime(time.pthread_getcpuclockid(thread))
            since_s = used_s - self._used.get(thread, used_s)
            self._used[thread] = used_s
            in_python_s += since_s
            if thread != self.ident:
                self.seconds[_step(frame)] += since_s
        if self._process_s is not None:
            self.seconds[LIBRDKAFKA] += process_s - self._process_s - in_python_s
        self._process_s = process_s


def _has_begun() -> bool:
    return any(thread.name.startswith(_BEGINS_WITH) for thread in threading.enumerate())


def _step(frame: FrameType | None) -> str:
    while frame is not None:
        module = str(frame.f_globals.get("__name__", ""))
        for step, modules in STEPS.items():
            if module.startswith(modules):
                return step
        frame = frame.f_back
    return REST


def main() -> None:
    """Run the command, and write what was sampled."""
    file, *arguments = sys.argv[1:]
    sys.setswitchinterval(_SWITCH_S)
    sampler = Sampler()
    sampler.start()
    try:
        app(arguments)
    finally:
        Path(file).write_bytes(orjson.dumps(sampler.end()))


if __name__ == "__main__":
    main()
