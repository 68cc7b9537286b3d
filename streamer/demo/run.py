"""Running the acts, one after the other, on a stack that is gone afterwards."""

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import orjson
from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from streamer import topics
from streamer.demo.acts import (
    ORGANIZATION,
    Act,
    ActReport,
    Endings,
    address,
    definition,
    event,
    is_suppressed,
    report,
)
from streamer.demo.workers import Workers, quantile
from streamer.ledger import campaigns, suppression
from streamer.ledger.connection import connect
from streamer.model.wire import SOURCE_OFFSET, SOURCE_PARTITION
from streamer.sandbox import SandboxProcess
from streamer.settings import Redis, Topics
from streamer.stack import Stack
from streamer.stack.guard import Guard
from streamer.worker.kafka import Properties

CALLS_PER_SECOND = 10
LATENCY_MS = 60

_PARTITIONS = 8
_READY_S = 60.0
_ACT_S = 120.0
_KILL_AT = 0.4


class DemoError(RuntimeError):
    """The demo could not be played to its end; the message says why."""


class DemoInterruptedError(Exception):
    """Somebody wanted it to end."""


class Audience(Protocol):
    """Who watches."""

    def say(self, words: str) -> None:
        """Something happens."""

    def begin(self, act: Act) -> None:
        """An act begins."""

    def see(self, endings: Endings, killed: int) -> None:
        """So many records have ended so far."""

    @property
    def leaves(self) -> bool:
        """Whether the demo should end: looked at now and then, as no exception of a signal's
        handler gets safely through the Kafka client."""


def run_demo(acts: Sequence[Act], audience: Audience) -> list[ActReport]:
    """Play the acts.

    Raises:
        DemoError: a worker did not start, or an act did not end in time.
        DemoInterruptedError: the audience left.
        streamer.stack.StackError: Kafka or Redis cannot be had.
    """
    audience.say("starting Kafka and Redis on this machine, and a stand-in for Resend")
    with (
        tempfile.TemporaryDirectory(prefix="streamer-demo-") as folder,
        _guarded(Path(folder)) as guard,
        Stack.ephemeral() as stack,
        SandboxProcess(limit=CALLS_PER_SECOND, latency_ms=LATENCY_MS) as sandbox,
    ):
        names = Topics()
        admin = AdminClient({"bootstrap.servers": stack.bootstrap_servers})
        topics.ensure(admin, names, _PARTITIONS, 1)
        stage = _Stage(stack, sandbox, names, audience)
        workers: Workers | None = None
        reports: list[ActReport] = []
        try:
            for act in acts:
                if workers is None or act.workers != acts[len(reports) - 1].workers:
                    if workers is not None:
                        workers.stop()
                    audience.say(f"starting {act.workers} worker(s): streamer run")
                    workers = Workers(
                        stack, sandbox.url, act.workers, Path(folder) / "workers.log", guard
                    )
                    if not workers.await_ready(_READY_S, lambda: audience.leaves):
                        if audience.leaves:
                            raise DemoInterruptedError
                        raise DemoError(f"the workers do not start:\n{workers.last_words()}")
                reports.append(stage.play(act, workers))
        finally:
            if workers is not None:
                workers.stop()
            stage.close()
        return reports


@contextmanager
def _guarded(folder: Path) -> Iterator[Guard]:
    """Ends the workers and removes their folder also when this process is killed."""
    guard = Guard(folder)
    try:
        yield guard
    finally:
        guard.dismiss()


class _Stage:
    """What the acts are played on."""

    def __init__(
        self, stack: Stack, sandbox: SandboxProcess, names: Topics, audience: Audience
    ) -> None:
        self._sandbox = sandbox
        self._topics = names
        self._audience = audience
        self._redis = connect(Redis(url=stack.redis_url))
        quiet: Properties = {"bootstrap.servers": stack.bootstrap_servers, "log_level": 0}
        self._producer = Producer({**quiet, "linger.ms": 10})
        self._consumer = Consumer(
            {
                **quiet,
                "group.id": "streamer-demo",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
            }
        )
        self._consumer.assign(
            [
                TopicPartition(topic, partition, 0)
                for topic in (names.outcomes, names.dead_letters)
                for partition in range(_PARTITIONS)
            ]
        )

    def play(self, act: Act, workers: Workers) -> ActReport:
        """Produce the act's campaign and watch it until every record has ended."""
        campaigns.create(self._redis, definition(act))
        suppressed = [address(act, n) for n in range(act.recipients) if is_suppressed(n)]
        suppression.add(self._redis, ORGANIZATION, suppressed)
        before = workers.suppression_buckets()
        self._audience.begin(act)
        started = time.monotonic()
        inputs = self._produce(act)
        endings = Endings()
        killed = 0
        while endings.total < act.recipients:
            self._read(endings)
            self._audience.see(endings, killed)
            if self._audience.leaves:
                raise DemoInterruptedError
            if act.kill and not killed and endings.total >= act.recipients * _KILL_AT:
                killed = int(workers.kill_one())
            if not workers.alive or time.monotonic() - started > _ACT_S:
                raise DemoError(
                    f"act {act.name}: {endings.total} of {act.recipients} records ended\n"
                    f"{workers.last_words()}"
                )
        seconds = time.monotonic() - started
        self._read(endings)  # an ending too many would show here
        after = workers.suppression_buckets()
        checks = after if act.kill else {b: n - before.get(b, 0.0) for b, n in after.items()}
        taken = [a for a in self._sandbox.acceptances() if a.campaign == f"act-{act.name}"]
        p99 = quantile(checks, 0.99) * 1000
        return report(act, endings, inputs, taken, seconds, p99, killed)

    def close(self) -> None:
        """Let go of the clients."""
        self._consumer.close()
        self._redis.close()

    def _produce(self, act: Act) -> set[tuple[int, int]]:
        """Write the act's recipients; returns their partitions and offsets."""
        written: set[tuple[int, int]] = set()

        def delivered(error: KafkaError | None, message: Message) -> None:
            if error is None:
                written.add((message.partition() or 0, message.offset() or 0))

        for number in range(act.recipients):
            self._producer.produce(
                self._topics.recipients, event(act, number), f"r-{number}", on_delivery=delivered
            )
            self._producer.poll(0)
        self._producer.flush(30)
        if len(written) != act.recipients:
            raise DemoError(f"only {len(written)} of {act.recipients} records could be produced")
        return written

    def _read(self, endings: Endings) -> None:
        for message in self._consumer.consume(500, 0.1):
            if message.error() is not None:
                continue
            if message.topic() == self._topics.outcomes:
                outcome = orjson.loads(message.value() or b"")
                source = outcome["source"]
                endings.add(
                    outcome["status"], (source["partition"], source["offset"]), outcome["email_id"]
                )
            else:
                headers = dict(message.headers() or [])
                partition = int(headers[SOURCE_PARTITION] or b"")
                endings.add("dead", (partition, int(headers[SOURCE_OFFSET] or b"")), None)
