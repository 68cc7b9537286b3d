"""Runs commands as an operator would."""

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
"""An address that accepts no connections."""
NO_CHANGE: Mapping[str, str] = {}
Answer = dict[str, object]


class CommandRunner:
    """Runs commands.

    Args:
        environment: the settings of every command; others have their defaults.
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
        """Create a runner with its own organization and topics, which do not exist yet."""
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
        """Create a runner with the harness's campaign and its workers' current settings."""
        return cls(harness.environment(), harness.organization, "spring", harness.topics)

    @property
    def bootstrap_servers(self) -> str:
        """The addresses of the brokers."""
        return self.environment["STREAMER_KAFKA__BOOTSTRAP_SERVERS"]

    def run(
        self,
        *arguments: str | Path,
        code: int = 0,
        stdin: bytes = b"",
        env: Mapping[str, str] = NO_CHANGE,
    ) -> Result:
        """Run a command and assert its exit code."""
        result = CliRunner().invoke(
            app, [str(each) for each in arguments], stdin, env={**self.environment, **env}
        )
        assert result.exit_code == code, result.output
        return result

    def json(self, *arguments: str | Path, code: int = 0, stdin: bytes = b"") -> object:
        """Run a command with `--json` and decode its output."""
        answer: object = orjson.loads(self.run(*arguments, "--json", code=code, stdin=stdin).stdout)
        return answer

    def answer(self, *arguments: str | Path, code: int = 0) -> Answer:
        """Run a command with `--json` and decode its output, a JSON object."""
        answer = self.json(*arguments, code=code)
        assert isinstance(answer, dict)
        return answer

    def lines(self, *arguments: str | Path) -> list[Answer]:
        """Run a command with `--json` and decode its output, JSON lines."""
        return [orjson.loads(x) for x in self.run(*arguments, "--json").stdout.splitlines()]

    def start(self, *arguments: str | Path) -> subprocess.Popen[bytes]:
        """Start a command as a separate process."""
        return subprocess.Popen(
            [sys.executable, "-m", "streamer", *map(str, arguments)],
            env={**os.environ, **self.environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # Tests run in the background ignore SIGINT, and the command would inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def define(self) -> None:
        """Define the campaign."""
        content = ("--from", "a@b.cc", "--subject", "s", "--text", "-")
        self.run("campaign", "create", self.campaign, *content, stdin=b"Hi")

    def ready(self) -> "CommandRunner":
        """Create the topics and define the campaign."""
        self.run("topics", "create", "--partitions", "2")
        self.define()
        return self

    def produced(self) -> list[tuple[bytes | None, RecipientEvent]]:
        """Return all records of the recipients topic."""
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
