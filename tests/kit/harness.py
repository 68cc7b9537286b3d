"""An isolated environment for one test: topics, a group, a sandbox and killable workers."""

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import orjson
from confluent_kafka import Consumer, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # public, yet not re-exported
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from streamer import topics
from streamer.flow.offsets import OffsetSet
from streamer.kafka.headers import header_list
from streamer.ledger import keys
from streamer.ledger.connection import connect
from streamer.model.campaign import CampaignName
from streamer.model.record import Headers, RecordId
from streamer.model.wire import SOURCE_TOPIC
from streamer.sandbox import SandboxProcess
from streamer.settings import RedisSettings as RedisSettings
from streamer.settings import TopicSettings
from streamer.stack import RedisServer, Stack
from tests.kit.exactly_once import (
    Evidence,
    Input,
    ResolvedRecord,
    assert_exactly_once,
    read_dead_letter,
    read_outcome,
)

SESSION_TIMEOUT_MS = 3_000
MESSAGE = {
    "from": "Acme <news@acme.test>",
    "subject": "Hello {{ first_name }}",
    "html": "<p>Hello {{ first_name }}, <a href='{{ unsubscribe_url }}'>no more</a></p>",
}


def wait_until(condition: Callable[[], object], seconds: float, what: str) -> None:
    """Wait for a condition; raise AssertionError if it is not met in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"after {seconds} s still not: {what}"
        time.sleep(0.02)


class WorkerProcess:
    """A worker in a separate process."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self.log = log

    @property
    def alive(self) -> bool:
        """Whether the process is running."""
        return self.process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """Send SIGKILL and wait for the exit."""
        self.process.kill()
        self.process.wait(10)

    def stop(self) -> int:
        """Send SIGTERM and return the exit code; raise AssertionError if it does not end."""
        self.process.terminate()
        try:
            return self.process.wait(60)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the worker does not end: {self.words()[-2_000:]}") from None

    def wait(self, seconds: float = 60) -> int:
        """Wait for the exit and return the exit code."""
        return self.process.wait(seconds)

    def words(self) -> str:
        """Return the log."""
        return self.log.read_text(errors="replace")


class Harness:
    """The environment of one test, with topics, keys and a group under unique names."""

    def __init__(
        self,
        bootstrap_servers: str,
        redis_url: str,
        sandbox: SandboxProcess,
        folder: Path,
        partitions: int = 4,
        cluster: bool = False,
        replication: int = 1,
        through: RedisSettings | None = None,
    ) -> None:
        self.name = f"t{secrets.token_hex(4)}"
        self.organization = f"org-{self.name}"
        self.organizations = {self.organization}
        """The organizations whose acceptances are checked."""
        self.sandbox = sandbox
        self.bootstrap_servers = bootstrap_servers
        self.redis_url = redis_url
        self.redis_settings = through or RedisSettings(url=redis_url, cluster=cluster)
        """How the test itself connects."""
        self.redis = connect(self.redis_settings)
        # Clear the state that other tests left for the shared account.
        of_account = (keys.account_health, keys.account_holds, keys.account_responses)
        self.redis.delete(*(key("default") for key in of_account))
        self.topics = TopicSettings(
            recipients=f"{self.name}.recipients",
            outcomes=f"{self.name}.outcomes",
            dead_letters=f"{self.name}.dead-letters",
            parked=f"{self.name}.parked",
            results=f"{self.name}.results",
            progress=f"{self.name}.progress",
            events=f"{self.name}.events",
        )
        self.group_protocol = "classic"
        self.settings = {"STREAMER_REDIS__CLUSTER": str(cluster).lower()}
        self._folder = folder
        self._workers: list[WorkerProcess] = []
        self._suppressed: set[tuple[str, str]] = set()
        topics.ensure(
            AdminClient({"bootstrap.servers": bootstrap_servers}),
            self.topics,
            partitions,
            replication,
        )
        self._producer = Producer(
            {"bootstrap.servers": bootstrap_servers, "linger.ms": 10, "log_level": 0}
        )

    # Input

    def event(self, number: int, **changes: object) -> dict[str, object]:
        """Return a recipient event; `changes` replace fields."""
        return {
            "organization_id": self.organization,
            "campaign_id": "spring",
            "recipient_id": f"r-{number}",
            "email": f"user{number}@example.com",
            "variables": {"first_name": f"N{number}"},
            "message": MESSAGE,
            **changes,
        }

    def produce(
        self, values: Iterable[Mapping[str, object] | bytes | None], partition: int | None = None
    ) -> None:
        """Write input records."""
        for value in values:
            body = value if value is None or isinstance(value, bytes) else orjson.dumps(value)
            key = value["recipient_id"] if isinstance(value, Mapping) else None
            while True:
                try:
                    self._producer.produce(
                        self.topics.recipients,
                        body,
                        str(key) if key is not None else None,
                        -1 if partition is None else partition,
                    )
                    break
                except BufferError:
                    self._producer.poll(0.1)
        self._producer.flush(30)

    def suppress(self, *addresses: str, checked: bool = True) -> None:
        """Suppress addresses of the organization.

        Args:
            checked: assert that they get no mail; only valid before anything was consumed.
        """
        self.redis.sadd(f"{{{self.organization}}}:suppressed", *addresses)
        if checked:
            self._suppressed |= {(self.organization, address) for address in addresses}

    def limit_messages(self, topic: str, limit: int) -> None:
        """Set the maximum message size of a topic."""
        entry = ConfigEntry(
            "max.message.bytes", str(limit), incremental_operation=AlterConfigOpType.SET
        )
        resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
        admin = AdminClient({"bootstrap.servers": self.bootstrap_servers})
        admin.incremental_alter_configs([resource])[resource].result(20)

    # Workers

    def start_worker(
        self,
        number: int = 0,
        crash_at: str | None = None,
        nth: int = 1,
        command: tuple[str, ...] | None = None,
        **settings: str,
    ) -> WorkerProcess:
        """Start a worker.

        Args:
            crash_at: the checkpoint at which it sends itself SIGKILL.
            nth: the pass of the checkpoint at which it does so.
            command: the arguments of the Python interpreter to run instead.
        """
        log = self._folder / f"worker-{number}-{len(self._workers)}.log"
        arguments = command or (
            "-m",
            "tests.kit.worker",
            str(number),
            *((crash_at, str(nth)) if crash_at else ()),
        )
        environment = {**os.environ, **self.environment(), **settings}
        with log.open("wb") as stream:
            process = subprocess.Popen(
                [sys.executable, *arguments],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
            )
        worker = WorkerProcess(process, log)
        self._workers.append(worker)
        return worker

    @property
    def workers(self) -> list[WorkerProcess]:
        """All workers started so far, including those that have ended."""
        return self._workers

    def environment(self) -> dict[str, str]:
        """Return the settings of workers and commands."""
        return {
            "STREAMER_KAFKA__BOOTSTRAP_SERVERS": self.bootstrap_servers,
            "STREAMER_KAFKA__GROUP_ID": self.name,
            "STREAMER_KAFKA__GROUP_PROTOCOL": self.group_protocol,
            "STREAMER_KAFKA__PROPERTIES": orjson.dumps(
                # In the newer protocol these are broker settings, and the client rejects them.
                {"session.timeout.ms": SESSION_TIMEOUT_MS, "heartbeat.interval.ms": 500}
                if self.group_protocol == "classic"
                else {}
            ).decode(),
            "STREAMER_TOPICS": self.topics.model_dump_json(),
            "STREAMER_REDIS__URL": self.redis_url,
            "STREAMER_WORKER__ID": f"{self.name}-w",
            "STREAMER_METRICS__PORT": "0",
            "STREAMER_PROGRESS__EMBEDDED": "false",
            "STREAMER_BREAKER__DEAD_SHARE": "1",
            "STREAMER_UNSUBSCRIBE__BASE_URL": "https://example.com/u",
            "STREAMER_UNSUBSCRIBE__SECRET": "a secret for tests alone",
            "STREAMER_ACCOUNTS__DEFAULT__API_KEY_ENV": "RESEND_API_KEY",
            "STREAMER_ACCOUNTS__DEFAULT__REQUESTS_PER_SECOND": "1000",
            "RESEND_API_KEY": "re_sandbox",
            "RESEND_API_URL": self.sandbox.url,
            **self.settings,
        }

    @contextlib.contextmanager
    def worker(self, number: int = 0, **settings: str) -> Iterator[WorkerProcess]:
        """Run a worker during the block and assert that it shuts down cleanly."""
        self.settings |= settings
        worker = self.start_worker(number)
        yield worker
        code = worker.stop()
        assert code == 0, worker.words()

    def close(self) -> None:
        """Kill every running worker."""
        for worker in self._workers:
            if worker.alive:
                worker.signal(signal.SIGCONT)
                worker.kill()
        self.redis.close()

    # Results

    def inputs(self) -> list[Input]:
        """Return all input records except those returned from the parked topic."""
        return [
            Input(_record_id(message), message.value())
            for message in self._read(self.topics.recipients)
            if not any(name == SOURCE_TOPIC for name, _ in _headers(message))
        ]

    def parked(self) -> list[RecordId]:
        """Return the original ids of the records that are parked now."""
        committed = self.committed_offsets(f"{self.name}.relay", self.topics.parked)
        gone = {
            p.partition: OffsetSet.decode(p.offset, p.metadata) for p in committed if p.offset >= 0
        }
        return [
            read_dead_letter(_headers(message)).source
            for message in self._read(self.topics.parked)
            if (message.offset() or 0) not in gone.get(message.partition() or 0, ())
        ]

    def returned(self) -> Counter[int]:
        """Return how many records were returned so far to each input partition."""
        return Counter(
            message.partition() or 0
            for message in self._read(self.topics.recipients)
            if any(name == SOURCE_TOPIC for name, _ in _headers(message))
        )

    def returned_from(self) -> list[RecordId]:
        """Return the original ids of returned records, in order within each partition."""
        return [
            read_dead_letter(_headers(message)).source
            for message in self._read(self.topics.recipients)
            if any(name == SOURCE_TOPIC for name, _ in _headers(message))
        ]

    def ever_parked(self) -> int:
        """Return how often records were parked so far; a record parked twice counts twice."""
        return len(self._read(self.topics.parked))

    def resolutions(self) -> list[ResolvedRecord]:
        """Return all committed outcomes and dead letters."""
        outcomes = [read_outcome(m.value() or b"") for m in self._read(self.topics.outcomes)]
        dead = [read_dead_letter(_headers(m)) for m in self._read(self.topics.dead_letters)]
        return outcomes + dead

    def dead_letters(self) -> list[Message]:
        """Return all committed dead letters."""
        return self._read(self.topics.dead_letters)

    def outcomes(self) -> list[dict[str, object]]:
        """Return all committed outcomes, decoded."""
        return [orjson.loads(m.value() or b"") for m in self._read(self.topics.outcomes)]

    def progress(self) -> dict[CampaignName, Counter[str]]:
        """Return the sum of each campaign's progress records."""
        counts: defaultdict[CampaignName, Counter[str]] = defaultdict(Counter)
        for message in self._read(self.topics.progress):
            read = orjson.loads(message.value() or b"")
            name = CampaignName(read["organization_id"], read["campaign_id"])
            assert message.key() == str(name).encode()
            counts[name].update(read["counts"])
        return counts

    def status_counts(self) -> Counter[tuple[str, str | None]]:
        """Return the number of resolutions by status and reason."""
        return Counter((resolution.status, resolution.reason) for resolution in self.resolutions())

    def await_resolutions(self, count: int, seconds: float = 60) -> None:
        """Wait until this many records are resolved."""
        tail = self.tail()
        try:
            deadline = time.monotonic() + seconds
            while tail.count < count:
                tail.poll()
                if time.monotonic() > deadline:
                    logs = "\n".join(worker.words()[-3000:] for worker in self._workers)
                    raise AssertionError(f"{tail.count} of {count} endings in {seconds} s\n{logs}")
        finally:
            tail.close()

    def tail(self) -> "Tail":
        """Return a counter of resolutions, which the caller must poll and close."""
        return Tail(self.bootstrap_servers, [self.topics.outcomes, self.topics.dead_letters])

    def assert_exactly_once(self, suppressed_too: bool = True, forgotten: bool = False) -> None:
        """Assert the delivery guarantees over everything so far.

        Args:
            forgotten: whether the ledger forgot batches, so that no outcome names them.
        """
        assert_exactly_once(
            Evidence(
                self.inputs(),
                self.resolutions(),
                [a for a in self.sandbox.acceptances() if a.organization in self.organizations],
                self.sandbox.stats(),
                self.committed(),
                frozenset(self._suppressed) if suppressed_too else frozenset(),
                self.parked(),
                self.returned_from(),
                self.progress(),
                forgotten,
            )
        )

    def committed(self) -> dict[tuple[str, int], int]:
        """Return the group's committed offsets."""
        return {(p.topic, p.partition): p.offset for p in self.committed_offsets() if p.offset >= 0}

    def committed_offsets(
        self, group: str | None = None, topic: str | None = None
    ) -> list[TopicPartition]:
        """Return the committed offsets of a group, by default the workers', with metadata."""
        consumer = _consumer(self.bootstrap_servers, group or self.name)
        topic = topic or self.topics.recipients
        try:
            partitions = consumer.list_topics(topic, 10).topics[topic]
            asked = [TopicPartition(topic, p) for p in partitions.partitions]
            deadline = time.monotonic() + 30
            while True:
                try:
                    return consumer.committed(asked, 15)
                except KafkaException:  # after a broker is killed, there is no coordinator at first
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.2)
        finally:
            consumer.close()

    def _read(self, topic: str) -> list[Message]:
        """Return all committed records of a topic."""
        consumer = _consumer(self.bootstrap_servers, f"{self.name}-reader")
        try:
            partitions = consumer.list_topics(topic, 10).topics[topic].partitions
            consumer.assign([TopicPartition(topic, p, 0) for p in partitions])
            ended: set[int] = set()
            messages = []
            deadline = time.monotonic() + 60
            while len(ended) < len(partitions):
                assert time.monotonic() < deadline, f"{topic} cannot be read to its end"
                for message in consumer.consume(1000, 0.2):
                    error = message.error()
                    if error is None:
                        messages.append(message)
                    elif error.name() == "_PARTITION_EOF":
                        ended.add(message.partition() or 0)
                    elif not error.retriable():
                        raise KafkaException(error)
            return messages
        finally:
            consumer.close()


class Tail:
    """Counts the committed records of topics as they arrive."""

    def __init__(self, bootstrap_servers: str, names: list[str]) -> None:
        self._consumer = _consumer(bootstrap_servers, "tail")
        self.count = 0
        assigned = [
            TopicPartition(name, partition, 0)
            for name in names
            for partition in self._consumer.list_topics(name, 10).topics[name].partitions
        ]
        self._consumer.assign(assigned)

    def poll(self) -> None:
        """Count the records that have arrived since."""
        self.count += sum(m.error() is None for m in self._consumer.consume(1000, 0.1))

    def close(self) -> None:
        """Close the consumer."""
        self._consumer.close()


def _consumer(bootstrap_servers: str, group: str) -> Consumer:
    return Consumer(
        {
            "bootstrap.servers": bootstrap_servers,
            "group.id": group,
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",
            "log_level": 0,
        }
    )


def _record_id(message: Message) -> RecordId:
    topic, partition, offset = message.topic(), message.partition(), message.offset()
    assert topic is not None
    assert partition is not None
    assert offset is not None
    return RecordId(topic, partition, offset)


def _headers(message: Message) -> Headers:
    return header_list(message) or []


__all__ = ["Harness", "RedisServer", "Stack", "Tail", "WorkerProcess", "wait_until"]
