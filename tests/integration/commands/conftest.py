"""What the tests of commands share."""

from collections.abc import Iterable

import pytest

from streamer.ledger.connection import Client, connect
from streamer.settings import Redis as RedisSettings
from streamer.stack import Stack


@pytest.fixture
def client(stack: Stack) -> Iterable[Client]:
    one = connect(RedisSettings(url=stack.redis_url))
    yield one
    one.close()
