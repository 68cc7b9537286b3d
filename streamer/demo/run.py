"""Running the acts, one after the other, on a stack that is gone afterwards."""

import os
import signal
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from itertools import groupby
from operator import attrgetter
from pathlib import Path

from confluent_kafka.admin import AdminClient

from streamer import topics
from streamer.demo.acts import Act
from streamer.demo.reports import ActReport
from streamer.demo.screen import Screen
from streamer.demo.stage import PARTITIONS, DemoError, DemoInterruptedError, Stage
from streamer.demo.workers import Workers
from streamer.sandbox import SandboxProcess
from streamer.settings import Topics
from streamer.stack import Stack
from streamer.stack.artifacts import KAFKA_VERSION, kafka_is_here
from streamer.stack.guard import Guard

CALLS_PER_SECOND = 10
LATENCY_MS = 60

_READY_S = 60.0


def run_demo(acts: Sequence[Act], screen: Screen) -> list[ActReport]:
    """Play the acts; an act that does not come to its end is the last.

    Nothing is left afterwards, and nothing either when this process is killed.

    Raises:
        DemoError: a worker did not start, or recipients could not be produced.
        DemoInterruptedError: somebody wanted it to end.
        streamer.stack.StackError: Kafka or Redis cannot be had.
    """
    if not kafka_is_here():
        screen.say(f"fetching Kafka {KAFKA_VERSION}, about 45 MB, once")
    screen.say(
        f"starting Kafka, Redis, and a stand-in for Resend: {CALLS_PER_SECOND} calls a second, "
        f"{LATENCY_MS} ms each"
    )
    with (
        tempfile.TemporaryDirectory(prefix="streamer-demo-") as folder,
        _guarded(Path(folder)) as guard,
        Stack.ephemeral() as stack,
        SandboxProcess(limit=CALLS_PER_SECOND, latency_ms=LATENCY_MS) as sandbox,
    ):
        names = Topics()
        _create_topics(stack, names)
        start = partial(Workers, stack, sandbox.url, Path(folder) / "workers.log", guard)
        with Stage(stack, sandbox, names, screen) as stage:
            # The workers are the same ones for acts that want as many.
            for count, alike in groupby(acts, attrgetter("workers")):
                with _crew(count, start, screen) as workers:
                    if not all(stage.play(act, workers) for act in alike):
                        break
            return stage.reports()


@contextmanager
def _crew(count: int, start: Callable[[int], Workers], screen: Screen) -> Iterator[Workers]:
    """So many workers, all at work, and ended afterwards.

    Raises:
        DemoError: they do not start.
        DemoInterruptedError: somebody wanted it to end meanwhile.
    """
    screen.say(f"starting: streamer run --workers {count}")
    workers = start(count)
    try:
        if not workers.await_ready(_READY_S, lambda: screen.leaves):
            if screen.leaves:
                raise DemoInterruptedError
            raise DemoError(f"the workers do not start:\n{workers.last_words()}")
        yield workers
    finally:
        workers.stop()


def _create_topics(stack: Stack, names: Topics) -> None:
    admin = AdminClient({"bootstrap.servers": stack.bootstrap_servers, "log_level": 0})
    topics.ensure(admin, names, PARTITIONS, 1)


@contextmanager
def _guarded(folder: Path) -> Iterator[Guard]:
    """Ends the workers and removes their folder also when this process is killed."""
    guard = Guard(folder)
    try:
        yield guard
    finally:
        # Also workers whose supervisor did not live to end them.
        with suppress(ProcessLookupError):
            os.killpg(guard.group, signal.SIGKILL)
        guard.dismiss()
