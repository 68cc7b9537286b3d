"""Kafka and Redis together."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from streamer.stack.guard import Guard
from streamer.stack.kafka import Kafka
from streamer.stack.redis import Redis


class Stack:
    """Both servers in one folder, for as long as this process runs.

    Args:
        folder: holds data, and logs in `logs/`.
        kafka_port: None for a free port.
        redis_port: None for a free port.
        guard: kills the servers when this process ends; None for a new guard each.
    """

    def __init__(
        self,
        folder: Path,
        kafka_port: int | None = None,
        redis_port: int | None = None,
        *,
        guard: Guard | None = None,
    ) -> None:
        self.folder = folder.resolve()
        logs = self.folder / "logs"
        self.kafka = Kafka(folder / "kafka", kafka_port, log=logs / "kafka.log", guard=guard)
        self.redis = Redis(folder / "redis", redis_port, log=logs / "redis.log", guard=guard)

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
        guard = Guard(folder)
        stack = cls(folder, guard=guard)
        try:
            stack.start()
            yield stack
        finally:
            stack.stop()
            shutil.rmtree(folder)
            # Last: until here the guard cleans up if this process is killed.
            guard.dismiss()
