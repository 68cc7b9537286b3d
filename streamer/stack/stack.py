"""Kafka and Redis together."""

import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from streamer.stack.kafka import Kafka
from streamer.stack.redis import Redis


class Stack:
    """Both servers, in one folder.

    Args:
        folder: data and logs.
        kafka_port, redis_port: None for free ones.
        guarded: end them when this process ends, by whatever means.
    """

    def __init__(
        self,
        folder: Path,
        kafka_port: int | None = None,
        redis_port: int | None = None,
        *,
        guarded: bool = True,
    ) -> None:
        self.kafka = Kafka(folder / "kafka", kafka_port, guarded=guarded)
        self.redis = Redis(folder / "redis", redis_port, guarded=guarded)

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
        with ThreadPoolExecutor(2) as pool:
            starts = [pool.submit(server.start) for server in (self.kafka, self.redis)]
        try:
            for start in starts:
                start.result()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End both."""
        with ThreadPoolExecutor(2) as pool:
            for server in (self.kafka, self.redis):
                pool.submit(server.stop)

    @classmethod
    @contextmanager
    def ephemeral(cls) -> Iterator["Stack"]:
        """Both in a temporary folder, on free ports; nothing is left afterwards."""
        folder = Path(tempfile.mkdtemp(prefix="streamer-"))
        stack = cls(folder)
        try:
            stack.start()
            yield stack
        finally:
            stack.stop()
            shutil.rmtree(folder, ignore_errors=True)
