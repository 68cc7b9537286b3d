"""Somebody who tells and mends at a terminal, after a world's workers."""

from pathlib import Path
from typing import cast

import orjson
from confluent_kafka import Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from typer.testing import CliRunner, Result

from streamer.cli import app
from streamer.model import marks
from streamer.model.record import Coordinates, Headers
from streamer.model.wire import DETAIL, REASON, source_headers
from streamer.settings import Settings
from tests.kit.world import World

Answer = dict[str, object]


class Mender:
    """Somebody who looks and mends at a terminal, in a world."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.campaign = f"{world.organization}/spring"
        self.environment = {
            "STREAMER_KAFKA__BOOTSTRAP_SERVERS": world.bootstrap_servers,
            "STREAMER_KAFKA__GROUP_ID": world.name,
            "STREAMER_REDIS__URL": world.redis_url,
            "STREAMER_TOPICS": world.topics.model_dump_json(),
        }
        self.settings = Settings.model_validate(
            {
                "kafka": {"bootstrap_servers": world.bootstrap_servers, "group_id": world.name},
                "topics": world.topics,
            }
        )
        self._producer = Producer(
            {
                "bootstrap.servers": world.bootstrap_servers,
                "message.max.bytes": 10_000_000,
                "log_level": 0,
            }
        )

    def run(self, *arguments: str | Path, code: int = 0) -> Result:
        """Run a command, which must end with the code."""
        result = CliRunner().invoke(app, [str(each) for each in arguments], env=self.environment)
        assert result.exit_code == code, result.output
        return result

    def json(self, *arguments: str | Path, code: int = 0) -> Answer:
        """Run a command and read its answer."""
        return cast(Answer, orjson.loads(self.run(*arguments, "--json", code=code).stdout))

    def lines(self, *arguments: str | Path) -> list[Answer]:
        """Run a command and read its answer, in JSON lines."""
        return [orjson.loads(x) for x in self.run(*arguments, "--json").stdout.splitlines()]

    def write(
        self, topic: str, value: bytes | None, headers: Headers | None = None, partition: int = 0
    ) -> None:
        """Write a record as somebody else might."""
        self._producer.produce(topic, value, b"key", partition, headers=headers or [])
        assert self._producer.flush(30) == 0

    def bury(self, value: bytes | None, offset: int, own: Headers | None = None) -> None:
        """Write a dead letter of a record that stood at the offset of partition 0."""
        where = Coordinates(self.world.topics.recipients, 0, offset)
        headers: Headers = [
            *(own or []),
            (REASON, b"unknown_campaign"),
            (DETAIL, b"nobody knows it"),
            *source_headers(where),
        ]
        self.write(self.world.topics.dead_letters, value, headers)

    def forget(self, topic: str) -> None:
        """Have Kafka delete the records of partition 0, as retention does."""
        admin = AdminClient({"bootstrap.servers": self.world.bootstrap_servers})
        for future in admin.delete_records([TopicPartition(topic, 0, -1)]).values():
            future.result()

    def inputs(self, mark: str) -> list[Message]:
        """The input records with a header of that name."""
        found = self.world._read(self.world.topics.recipients)
        return [message for message in found if mark in words(message)]


def words(message: Message) -> dict[str, str]:
    """The marks of a message that this project makes."""
    headers = message.headers() or []
    return marks.words(headers.items() if isinstance(headers, dict) else headers)
