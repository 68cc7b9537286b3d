"""Fixtures for tests of commands."""

from collections.abc import Callable, Iterator

import pytest

from streamer.ledger.connection import Client, connect
from streamer.sandbox import SandboxProcess
from streamer.settings import RedisSettings as RedisSettings
from streamer.stack import RedisServer, Stack
from tests.kit.desk import Desk


@pytest.fixture
def client(stack: Stack) -> Iterator[Client]:
    one = connect(RedisSettings(url=stack.redis_url))
    yield one
    one.close()


@pytest.fixture
def desk(make_redis: Callable[[], RedisServer], sandbox: SandboxProcess) -> Iterator[Desk]:
    one = Desk(make_redis(), sandbox)
    yield one
    one.client.close()
