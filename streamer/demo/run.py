"""Running the acts, one after the other, on a stack that is gone afterwards."""

import os
import signal
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from confluent_kafka.admin import AdminClient

from streamer import topics
from streamer.demo.acts import Act
from streamer.demo.audience import Audience
from streamer.demo.reports import ActReport
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


def run_demo(acts: Sequence[Act], audience: Audience) -> list[ActReport]:
    """Play the acts; an act that does not come to its end is the last.

    Nothing is left afterwards, and nothing either when this process is killed.

    Raises:
        DemoError: a worker did not start, or recipients could not be produced.
        DemoInterruptedError: the audience left.
        streamer.stack.StackError: Kafka or Redis cannot be had.
    """
    if not kafka_is_here():
        audience.say(f"fetching Kafka {KAFKA_VERSION}, about 45 MB, once")
    audience.say(
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
        with Stage(stack, sandbox, names, audience) as stage:
            crews = _Crews(stack, sandbox.url, Path(folder) / "workers.log", guard, audience)
            try:
                for act in acts:
                    if not stage.play(act, crews.of(act)):
                        break
            finally:
                crews.stop()
            return stage.reports()


class _Crews:
    """The workers, the same ones for acts that want as many."""

    def __init__(
        self, stack: Stack, api_url: str, log: Path, guard: Guard, audience: Audience
    ) -> None:
        self._stack = stack
        self._api_url = api_url
        self._log = log
        self._guard = guard
        self._audience = audience
        self._count = 0
        self._workers: Workers | None = None

    def of(self, act: Act) -> Workers:
        """As many as the act wants, all at work.

        Raises:
            DemoError: they do not start.
            DemoInterruptedError: the audience left meanwhile.
        """
        if self._workers is None or self._count != act.workers:
            self.stop()
            self._audience.say(f"starting: streamer run --workers {act.workers}")
            self._count = act.workers
            self._workers = Workers(self._stack, self._api_url, act.workers, self._log, self._guard)
            if not self._workers.await_ready(_READY_S, lambda: self._audience.leaves):
                if self._audience.leaves:
                    raise DemoInterruptedError
                raise DemoError(f"the workers do not start:\n{self._workers.last_words()}")
        return self._workers

    def stop(self) -> None:
        """End them."""
        workers, self._workers = self._workers, None
        if workers is not None:
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
