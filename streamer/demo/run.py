"""Running the acts one after the other on a temporary stack."""

import os
import signal
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
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
from streamer.demo.workers import DemoGateway, Workers
from streamer.sandbox import Faults, SandboxProcess
from streamer.settings import TopicSettings
from streamer.stack import Stack
from streamer.stack.artifacts import KAFKA_VERSION, kafka_is_here
from streamer.stack.reaper import ProcessReaper

CALLS_PER_SECOND = 10
LATENCY_MS = 60
BOUNCED_PERCENT = 2

_READY_S = 60.0


def run_demo(acts: Sequence[Act], screen: Screen) -> list[ActReport]:
    """Run the acts, stopping after one that does not finish.

    Everything is removed afterwards, even if this process is killed.

    Raises:
        DemoError: a worker did not start, or recipients could not be produced.
        DemoInterruptedError: the demo was interrupted.
        streamer.stack.StackError: Kafka or Redis cannot be started.
    """
    if not kafka_is_here():
        screen.say(f"downloading Kafka {KAFKA_VERSION} (once, about 45 MB)")
    screen.say(
        f"starting Kafka, Redis and the Resend sandbox: {CALLS_PER_SECOND} calls per second, "
        f"{LATENCY_MS} ms each"
    )
    with (
        tempfile.TemporaryDirectory(prefix="streamer-demo-") as folder,
        _guarded(Path(folder)) as reaper,
        Stack.ephemeral() as stack,
        SandboxProcess(limit=CALLS_PER_SECOND, latency_ms=LATENCY_MS) as sandbox,
    ):
        names = TopicSettings()
        _create_topics(stack, names)
        log = Path(folder) / "workers.log"
        with ExitStack() as ends:
            gateway = DemoGateway(stack, log, reaper)
            ends.callback(gateway.stop)
            if not gateway.is_up:
                raise DemoError("the gateway did not start")
            sandbox.set_faults(Faults(bounced_percent=BOUNCED_PERCENT))
            sandbox.send_webhooks(f"{gateway.url}/webhooks/default")
            start = partial(Workers, stack, sandbox.url, gateway.url, log, reaper)
            stage = ends.enter_context(Stage(stack, sandbox, names, screen, gateway.url))
            # Consecutive acts with the same number of workers share them.
            for count, alike in groupby(acts, attrgetter("workers")):
                with _crew(count, start, screen) as workers:
                    if not all(stage.play(act, workers) for act in alike):
                        break
            return stage.reports()


@contextmanager
def _crew(count: int, start: Callable[[int], Workers], screen: Screen) -> Iterator[Workers]:
    """Start workers, wait until all are ready, and stop them afterwards.

    Raises:
        DemoError: the workers do not start.
        DemoInterruptedError: the demo was interrupted.
    """
    screen.say(f"starting: streamer run --workers {count}")
    workers = start(count)
    try:
        if not workers.await_ready(_READY_S, lambda: screen.leaves):
            if screen.leaves:
                raise DemoInterruptedError
            raise DemoError(f"the workers did not start:\n{workers.last_words()}")
        yield workers
    finally:
        workers.stop()


def _create_topics(stack: Stack, names: TopicSettings) -> None:
    admin = AdminClient({"bootstrap.servers": stack.bootstrap_servers, "log_level": 0})
    topics.ensure(admin, names, PARTITIONS, 1)


@contextmanager
def _guarded(folder: Path) -> Iterator[ProcessReaper]:
    """Kill the workers and remove their folder even if this process is killed."""
    reaper = ProcessReaper(folder)
    try:
        yield reaper
    finally:
        # Includes workers whose supervisor died before stopping them.
        with suppress(ProcessLookupError):
            os.killpg(reaper.group, signal.SIGKILL)
        reaper.dismiss()
