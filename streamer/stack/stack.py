"""Kafka and Redis together."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from streamer.stack.kafka import KafkaServer
from streamer.stack.reaper import ProcessReaper
from streamer.stack.redis import RedisServer


class Stack:
    """Both servers in one folder, for as long as this process runs.

    Args:
        folder: holds data, and logs in `logs/`.
        kafka_port: None for a free port.
        redis_port: None for a free port.
        reaper: kills the servers when this process ends; None for a new guard each.
    """

    def __init__(
        self,
        folder: Path,
        kafka_port: int | None = None,
        redis_port: int | None = None,
        *,
        reaper: ProcessReaper | None = None,
    ) -> None:
        self.folder = folder.resolve()
        logs = self.folder / "logs"
        self.kafka = KafkaServer(
            folder / "kafka", kafka_port, log=logs / "kafka.log", reaper=reaper
        )
        self.redis = RedisServer(
            folder / "redis", redis_port, log=logs / "redis.log", reaper=reaper
        )

    @property
    def bootstrap_servers(self) -> str:
        """Kafka's address."""
        return self.kafka.bootstrap_servers

    @property
    def redis_url(self) -> str:
        """Redis's address."""
        return self.redis.url

    def start(self) -> None:
        """Start both servers concurrently.

        Raises:
            StackError: a server does not start; the other one is stopped again.
        """
        servers = (self.redis, self.kafka)  # Redis first, since Kafka blocks to format its folder
        try:
            for server in servers:
                server.spawn()
            for server in servers:
                server.wait_until_it_serves()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop both servers."""
        servers = (self.kafka, self.redis)
        for server in servers:
            server.ask_to_stop()
        for server in servers:
            server.stop()

    @classmethod
    @contextmanager
    def ephemeral(cls) -> Iterator["Stack"]:
        """Run both servers in a temporary folder on free ports.

        Everything is removed afterwards, even if this process is killed.

        Raises:
            StackError: a server does not start.
        """
        folder = Path(tempfile.mkdtemp(prefix="streamer-"))
        reaper = ProcessReaper(folder)
        stack = cls(folder, reaper=reaper)
        try:
            stack.start()
            yield stack
        finally:
            stack.stop()
            shutil.rmtree(folder)
            # Last: until here the guard cleans up if this process is killed.
            reaper.dismiss()
