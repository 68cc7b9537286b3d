"""Somebody at a terminal: the commands as tests run them."""

import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import orjson
from confluent_kafka import Consumer, TopicPartition
from typer.testing import CliRunner, Result

from streamer.cli import app
from streamer.model.event import RecipientEvent, parse
from streamer.settings import TopicSettings
from streamer.stack import Stack
from tests.kit.harness import Harness

NOWHERE = "127.0.0.1:1"
"""Where nobody answers."""
NO_CHANGE: Mapping[str, str] = {}
Answer = dict[str, object]


class CommandRunner:
    """Somebody at a terminal.

    Args:
        environment: the settings of every command; those not named are the defaults.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        organization: str,
        campaign_id: str,
        topics: TopicSettings | None = None,
    ) -> None:
        self.environment = dict(environment)
        self.organization = organization
        self.campaign = f"{organization}/{campaign_id}"
        self.topics = topics or TopicSettings()

    @classmethod
    def of_stack(cls, stack: Stack) -> "CommandRunner":
        """With an organization and topics of their own, which are not there yet."""
        name = secrets.token_hex(4)
        topics = TopicSettings(
            **{setting: f"{name}.{setting}" for setting in TopicSettings.model_fields}
        )
        environment = {
            "STREAMER_KAFKA__BOOTSTRAP_SERVERS": stack.bootstrap_servers,
            "STREAMER_REDIS__URL": stack.redis_url,
            **{
                f"STREAMER_TOPICS__{setting.upper()}": str(topic)
                for setting, topic in topics.model_dump().items()
            },
        }
        return cls(environment, f"org-{name}", "spring-26", topics)

    @classmethod
    def of_harness(cls, harness: Harness) -> "CommandRunner":
        """With the settings that the world's workers have now, and its campaign."""
        return cls(harness.environment(), harness.organization, "spring", harness.topics)

    @property
    def bootstrap_servers(self) -> str:
        """The brokers."""
        return self.environment["STREAMER_KAFKA__BOOTSTRAP_SERVERS"]

    def run(
        self,
        *arguments: str | Path,
        code: int = 0,
        stdin: bytes = b"",
        env: Mapping[str, str] = NO_CHANGE,
    ) -> Result:
        """Run a command, which must end with the code."""
        result = CliRunner().invoke(
            app, [str(each) for each in arguments], stdin, env={**self.environment, **env}
        )
        assert result.exit_code == code, result.output
        return result

    def json(self, *arguments: str | Path, code: int = 0, stdin: bytes = b"") -> object:
        """Run a command and read its answer."""
        answer: object = orjson.loads(self.run(*arguments, "--json", code=code, stdin=stdin).stdout)
        return answer

    def answer(self, *arguments: str | Path, code: int = 0) -> Answer:
        """Run a command and read its answer, which is a JSON object."""
        answer = self.json(*arguments, code=code)
        assert isinstance(answer, dict)
        return answer

    def lines(self, *arguments: str | Path) -> list[Answer]:
        """Run a command and read its answer, in JSON lines."""
        return [orjson.loads(x) for x in self.run(*arguments, "--json").stdout.splitlines()]

    def start(self, *arguments: str | Path) -> subprocess.Popen[bytes]:
        """Start a command as a process of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "streamer", *map(str, arguments)],
            env={**os.environ, **self.environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # Whoever runs the tests in the background ignores it, and so would the command.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def define(self) -> None:
        """Define the campaign."""
        content = ("--from", "a@b.cc", "--subject", "s", "--text", os.devnull)
        self.run("campaign", "create", self.campaign, *content)

    def ready(self) -> "CommandRunner":
        """Topics are there, and the campaign is defined."""
        self.run("topics", "create", "--partitions", "2")
        self.define()
        return self

    def produced(self) -> list[tuple[bytes | None, RecipientEvent]]:
        """All records of the recipients' topic."""
        consumer = Consumer(
            {
                "bootstrap.servers": self.bootstrap_servers,
                "group.id": "-",
                "enable.auto.commit": False,
            }
        )
        topic = self.topics.recipients
        found = []
        for partition in consumer.list_topics(topic, timeout=10).topics[topic].partitions:
            where = TopicPartition(topic, partition, 0)
            _, end = consumer.get_watermark_offsets(where, timeout=10)
            consumer.assign([where])
            for _ in range(end):
                message = consumer.poll(10)
                assert message is not None
                assert message.error() is None
                found.append((message.key(), parse(message.value())))
        consumer.close()
        return found
