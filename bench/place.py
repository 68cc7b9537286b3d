"""Where a measurement takes place: topics, a group and a backlog of its own on the stack."""

import time
from collections import Counter
from dataclasses import dataclass
from typing import cast

import orjson
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from bench import content
from bench.measured import BenchError, bare_environment
from streamer import topics
from streamer.ledger import campaigns, suppression
from streamer.ledger.connection import connect
from streamer.sandbox import SandboxProcess
from streamer.settings import Redis, Topics
from streamer.stack import Stack

PARTITIONS = 8
_FLUSH_S = 60.0
_READ_S = 120.0


@dataclass(frozen=True, slots=True)
class Ending:
    """What the outcomes of a run say.

    Attributes:
        missing: recipients without an outcome.
        repeated: outcomes beyond a recipient's first.
    """

    statuses: dict[str, int]
    missing: int
    repeated: int


class Place:
    """A run's own part of the stack.

    Args:
        name: unique among the runs; also the campaign's id.
    """

    def __init__(
        self, stack: Stack, sandbox: SandboxProcess, name: str, recipients: int, *, inline: bool
    ) -> None:
        self._stack = stack
        self._sandbox = sandbox
        self.name = name
        self.recipients = recipients
        self._inline = inline
        self._topics = Topics(
            recipients=f"{name}.recipients",
            outcomes=f"{name}.outcomes",
            dead_letters=f"{name}.dead-letters",
            parked=f"{name}.parked",
            results=f"{name}.results",
        )
        # Of the measured group, but never a member: it only asks for the group's offsets.
        self._watcher = self._consumer()

    def prepare(self) -> None:
        """Make the topics, the campaign and the suppression list, and write the backlog."""
        admin = AdminClient({"bootstrap.servers": self._stack.bootstrap_servers})
        topics.ensure(admin, self._topics, PARTITIONS, 1)
        client = connect(Redis(url=self._stack.redis_url))
        suppression.add(client, content.ORGANIZATION, content.suppressed(self.recipients))
        if not self._inline:
            campaigns.create(client, content.definition(self.name))
        client.close()
        self._sandbox.reset()
        producer = Producer(
            {
                "bootstrap.servers": self._stack.bootstrap_servers,
                "linger.ms": 20,
                "compression.type": "lz4",
                # Compressed, a fetch brings the worker many times its size: the hard case.
            }
        )
        for key, value in content.events(self.name, self.recipients, inline=self._inline):
            while True:
                try:
                    producer.produce(self._topics.recipients, value, key)
                except BufferError:
                    producer.poll(0.1)
                else:
                    break
        if producer.flush(_FLUSH_S):
            raise BenchError("Kafka did not take the backlog in time")

    def environment(self, requests_per_second: float, metrics_port: int) -> dict[str, str]:
        """The settings of whoever is measured here."""
        return bare_environment() | {
            "STREAMER_KAFKA__BOOTSTRAP_SERVERS": self._stack.bootstrap_servers,
            "STREAMER_KAFKA__GROUP_ID": self.name,
            "STREAMER_TOPICS": self._topics.model_dump_json(),
            "STREAMER_REDIS__URL": self._stack.redis_url,
            "STREAMER_WORKER__ID": self.name,
            "STREAMER_METRICS__PORT": str(metrics_port),
            "STREAMER_PROGRESS__EMBEDDED": "false",  # the plain loop counts nothing either
            "STREAMER_UNSUBSCRIBE__BASE_URL": "https://bench.example/u",
            "STREAMER_UNSUBSCRIBE__SECRET": "a secret for measurements alone",
            "STREAMER_ACCOUNTS__DEFAULT__API_KEY_ENV": "RESEND_API_KEY",
            "STREAMER_ACCOUNTS__DEFAULT__REQUESTS_PER_SECOND": str(requests_per_second),
            "STREAMER_LOG__LEVEL": "warning",
            "RESEND_API_KEY": "re_sandbox",
            "RESEND_API_URL": self._sandbox.url,
        }

    def committed(self) -> int:
        """How many records the group has committed."""
        asked = [TopicPartition(self._topics.recipients, number) for number in range(PARTITIONS)]
        return sum(max(0, p.offset) for p in self._watcher.committed(asked, 15.0))

    def read_ending(self) -> Ending:
        """Read all committed outcomes.

        Raises:
            BenchError: they cannot be read to the end in time.
        """
        statuses: Counter[str] = Counter()
        seen = bytearray(self.recipients)
        self._watcher.assign(
            [TopicPartition(self._topics.outcomes, number, 0) for number in range(PARTITIONS)]
        )
        ended: set[int | None] = set()
        until = time.monotonic() + _READ_S
        while len(ended) < PARTITIONS:
            if time.monotonic() > until:
                raise BenchError("the outcomes could not be read in time")
            for message in self._watcher.consume(2000, 0.2):
                error = message.error()
                if error is None:
                    outcome = cast(dict[str, str], orjson.loads(message.value() or b""))
                    statuses[outcome["status"]] += 1
                    seen[content.number_of(outcome["recipient_id"])] = 1
                    until = time.monotonic() + _READ_S
                elif error.code() == KafkaError._PARTITION_EOF:
                    ended.add(message.partition())
                elif not error.retriable():
                    raise KafkaException(error)
        reached = seen.count(1)
        return Ending(dict(statuses), self.recipients - reached, sum(statuses.values()) - reached)

    def close(self) -> None:
        """Let go of it; its topics end with the stack."""
        self._watcher.close()

    def _consumer(self) -> Consumer:
        return Consumer(
            {
                "bootstrap.servers": self._stack.bootstrap_servers,
                "group.id": self.name,
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "log_level": 0,  # the stack ends before the last of them does
                "isolation.level": "read_committed",
                "auto.offset.reset": "earliest",
            }
        )
