"""Kafka and Redis for the tests that ask for them."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from streamer.stack import Kafka, Redis, Stack


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """One Kafka and one Redis for all tests: use topics, groups and keys of your own."""
    with Stack.ephemeral() as running:
        yield running


@pytest.fixture
def make_kafka(tmp_path: Path) -> Iterator[Callable[[], Kafka]]:
    """Start brokers that a test may kill and restart."""
    with ExitStack() as cleanup:
        count = iter(range(100))

        def make() -> Kafka:
            kafka = Kafka(tmp_path / f"kafka-{next(count)}")
            cleanup.callback(kafka.kill)
            kafka.start()
            return kafka

        yield make


@pytest.fixture
def make_redis(tmp_path: Path) -> Iterator[Callable[[], Redis]]:
    """Start servers that a test may kill and restart."""
    with ExitStack() as cleanup:
        count = iter(range(100))

        def make() -> Redis:
            redis = Redis(tmp_path / f"redis-{next(count)}")
            cleanup.callback(redis.kill)
            redis.start()
            return redis

        yield make
