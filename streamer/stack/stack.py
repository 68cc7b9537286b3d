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
    """Both servers, in one folder, for as long as this process runs.

    Args:
        folder: data, and logs in `logs/`.
        kafka_port, redis_port: None for free ones.
        guard: who ends them when this process ends; None for guards of their own.
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
        """Redis' address."""
        return self.redis.url

    def start(self) -> None:
        """Start both, at the same time.

        Raises:
            StackError: one of them does not start; then neither runs.
        """
        servers = (self.redis, self.kafka)  # the quick one first: Kafka prepares its folder
        try:
            for server in servers:
                server.spawn()
            for server in servers:
                server.wait_until_it_serves()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End both."""
        servers = (self.kafka, self.redis)
        for server in servers:
            server.ask_to_stop()
        for server in servers:
            server.stop()

    @classmethod
    @contextmanager
    def ephemeral(cls) -> Iterator["Stack"]:
        """Both in a temporary folder, on free ports; nothing is left afterwards.

        Nothing either when this process is killed.

        Raises:
            StackError: one of them does not start.
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
            # Last: until here the guard does what this process, if it is killed, no longer can.
            guard.dismiss()
