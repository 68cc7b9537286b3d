"""Separate topics and a consumer group for each measurement, on a shared stack."""

import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import cast

import orjson
import urllib3
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from rich.console import Console, RenderableType

from bench.measured import BenchError, MeasuredProcess, bare_environment
from streamer import topics
from streamer.ledger.connection import Client, connect
from streamer.sandbox import DEFAULT_KEY, SandboxProcess
from streamer.settings import RedisSettings, TopicSettings
from streamer.stack import RedisServer, Stack

PARTITIONS = 8
_FLUSH_S = 60.0
_READ_S = 120.0
_CALL_S = 15.0
_ASK_S = 5.0


def totals_alone(limit: int | None, latency_ms: float = 0) -> SandboxProcess:
    """A stand-in for Resend that keeps only counts."""
    return SandboxProcess(
        limit=limit,
        latency_ms=latency_ms,
        count_addresses=False,
        keep_acceptances=False,
        keep_mails=0,
    )


@contextmanager
def redis_alone() -> Iterator[tuple[Client, str]]:
    """An empty Redis for the duration of the block: a client, and the server's version."""
    with tempfile.TemporaryDirectory() as folder:
        server = RedisServer(Path(folder) / "redis")
        server.start()
        try:
            with closing(connect(RedisSettings(url=server.url))) as client:
                yield client, server.version()
        finally:
            server.stop()


def used_memory(client: Client) -> int:
    """The bytes in use by Redis, without the buffers of clients and of the append-only file."""
    found = cast(dict[str, int], client.info("memory"))
    return found["used_memory"] - found["mem_clients_normal"] - found["mem_aof_buffer"]


def show(report: object, words: RenderableType, as_json: bool) -> None:
    """Print a report as JSON or as text."""
    if as_json:
        sys.stdout.buffer.write(orjson.dumps(report, option=orjson.OPT_INDENT_2) + b"\n")
    else:
        Console().print(words)


def read_metrics(port: int) -> str:
    """Fetch a worker's `/metrics`."""
    url = f"http://127.0.0.1:{port}/metrics"
    return urllib3.request("GET", url, retries=False, timeout=10.0).data.decode()


class BenchSite:
    """The environment of one measurement: topics, consumer group and settings.

    Args:
        name: a unique name.
    """

    def __init__(self, stack: Stack, sandbox: SandboxProcess, name: str) -> None:
        self.name = name
        self.stack = stack
        self.sandbox = sandbox
        self.topics = TopicSettings(
            recipients=f"{name}.recipients",
            outcomes=f"{name}.outcomes",
            dead_letters=f"{name}.dead-letters",
            parked=f"{name}.parked",
            results=f"{name}.results",
            progress=f"{name}.progress",
            events=f"{name}.events",
        )
        self._admin = AdminClient({"bootstrap.servers": stack.bootstrap_servers})
        # Has the measured group's id but never joins it: it only reads the group's offsets.
        self._watcher = Consumer(
            {
                "bootstrap.servers": stack.bootstrap_servers,
                "group.id": name,
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "log_level": 0,  # the stack may stop before the last consumer does
                "isolation.level": "read_committed",
                "auto.offset.reset": "earliest",
            }
        )

    def make_topics(self) -> None:
        """Create the topics."""
        topics.ensure(self._admin, self.topics, PARTITIONS, 1)

    def write(self, events: Iterable[tuple[str, bytes]]) -> None:
        """Produce input records from pairs of key and value.

        Raises:
            BenchError: Kafka did not accept them in time.
        """
        producer = Producer(
            {
                "bootstrap.servers": self.stack.bootstrap_servers,
                "linger.ms": 20,
                "compression.type": "lz4",
                # The hard case: a compressed fetch expands to many times its size in the worker.
            }
        )
        for key, value in events:
            while True:
                try:
                    producer.produce(self.topics.recipients, value, key)
                except BufferError:
                    producer.poll(0.1)
                else:
                    break
        if producer.flush(_FLUSH_S):
            raise BenchError("Kafka did not accept the backlog in time")

    def redis(self) -> AbstractContextManager[Client]:
        """A Redis client."""
        return closing(connect(RedisSettings(url=self.stack.redis_url)))

    def worker(
        self,
        requests_per_second: float,
        metrics_port: int = 0,
        workers: int = 1,
        settings: dict[str, str] | None = None,
        samples: Path | None = None,
    ) -> MeasuredProcess:
        """Start workers with `streamer run`.

        Args:
            samples: where to write how long each step took; None does not sample.
        """
        environment = self.environment(requests_per_second, metrics_port) | (settings or {})
        program = ["streamer"] if samples is None else ["bench.sampled", str(samples)]
        return MeasuredProcess(["-m", *program, "run", "--workers", str(workers)], environment)

    def environment(self, requests_per_second: float, metrics_port: int) -> dict[str, str]:
        """Environment of a measured process, using the sandbox's default account."""
        account = {"api_key_env": "RESEND_API_KEY", "requests_per_second": requests_per_second}
        return bare_environment() | {
            "STREAMER_KAFKA__BOOTSTRAP_SERVERS": self.stack.bootstrap_servers,
            "STREAMER_KAFKA__GROUP_ID": self.name,
            "STREAMER_TOPICS": self.topics.model_dump_json(),
            "STREAMER_REDIS__URL": self.stack.redis_url,
            "STREAMER_WORKER__ID": self.name,
            "STREAMER_METRICS__PORT": str(metrics_port),
            "STREAMER_UNSUBSCRIBE__BASE_URL": "https://bench.example/u",
            "STREAMER_UNSUBSCRIBE__SECRET": "a secret for measurements alone",
            "STREAMER_ACCOUNTS": orjson.dumps({"default": account}).decode(),
            "STREAMER_LOG__LEVEL": "warning",
            "RESEND_API_KEY": DEFAULT_KEY,
            "RESEND_API_URL": self.sandbox.url,
        }

    def redis_bytes(self) -> int:
        """The memory that Redis uses."""
        with self.redis() as client:
            return int(client.info("memory")["used_memory"])

    def members(self) -> int:
        """Number of group members with assigned partitions; 0 while Kafka cannot tell."""
        described = self._admin.describe_consumer_groups([self.name], request_timeout=_ASK_S)
        try:
            group = described[self.name].result(2 * _ASK_S)
        except (KafkaException, TimeoutError):  # no coordinator yet
            return 0
        return sum(bool(member.assignment.topic_partitions) for member in group.members)

    def committed(self) -> int:
        """Number of records committed by the group; 0 while Kafka cannot tell."""
        asked = [TopicPartition(self.topics.recipients, number) for number in range(PARTITIONS)]
        try:
            found = self._watcher.committed(asked, _CALL_S)
        except KafkaException:  # no coordinator yet
            return 0
        return sum(max(0, each.offset) for each in found)

    def outcomes(self) -> Iterator[dict[str, str]]:
        """Read all committed outcomes.

        Raises:
            BenchError: the end of the topic was not reached in time.
        """
        self._watcher.assign(
            [TopicPartition(self.topics.outcomes, number, 0) for number in range(PARTITIONS)]
        )
        ended: set[int | None] = set()
        until = time.monotonic() + _READ_S
        while len(ended) < PARTITIONS:
            if time.monotonic() > until:
                raise BenchError("the outcomes could not be read in time")
            for message in self._watcher.consume(2000, 0.2):
                error = message.error()
                if error is None:
                    yield cast(dict[str, str], orjson.loads(message.value() or b""))
                    until = time.monotonic() + _READ_S
                elif error.code() == KafkaError._PARTITION_EOF:
                    ended.add(message.partition())
                elif not error.retriable():
                    raise KafkaException(error)

    def close(self) -> None:
        """Close the consumer. The topics disappear with the stack."""
        self._watcher.close()
        # While its broker lives: without one the client may never end.
        del self._admin
