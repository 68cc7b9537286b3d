"""What the tests of commands share."""

from collections.abc import Iterable

import pytest

from streamer.ledger.connection import Client, connect
from streamer.settings import Redis as RedisSettings
from streamer.stack import Stack
from tests.kit.operator import Operator
from tests.kit.records import Records
from tests.kit.world import World


@pytest.fixture
def operator(stack: Stack) -> Operator:
    return Operator.of_stack(stack)


@pytest.fixture
def records(world: World) -> Records:
    return Records(world)


@pytest.fixture
def client(stack: Stack) -> Iterable[Client]:
    one = connect(RedisSettings(url=stack.redis_url))
    yield one
    one.close()
