"""Fixtures for tests of commands."""

from collections.abc import Callable, Iterator

import pytest

from streamer.sandbox import SandboxProcess
from streamer.settings import RedisSettings as RedisSettings
from streamer.stack import RedisServer
from tests.kit.desk import Desk


@pytest.fixture
def desk(make_redis: Callable[[], RedisServer], sandbox: SandboxProcess) -> Iterator[Desk]:
    one = Desk(make_redis(), sandbox)
    yield one
    one.client.close()
