"""What tests on real servers share: somebody at a terminal, and what others do meanwhile."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from streamer.ledger.connection import Client, connect
from streamer.settings import RedisSettings as RedisSettings
from streamer.stack import Stack
from tests.kit.harness import Harness
from tests.kit.office import Office
from tests.kit.operator import CommandRunner
from tests.kit.records import Records


@pytest.fixture
def client(stack: Stack) -> Iterator[Client]:
    """Of the stack's Redis."""
    one = connect(RedisSettings(url=stack.redis_url))
    yield one
    one.close()


@pytest.fixture
def operator(request: pytest.FixtureRequest, stack: Stack) -> CommandRunner:
    """Of the test's world, where it has one; else with topics of their own."""
    if "harness" in request.fixturenames:
        return CommandRunner.of_harness(request.getfixturevalue("harness"))
    return CommandRunner.of_stack(stack)


@pytest.fixture
def records(harness: Harness) -> Records:
    return Records(harness)


@pytest.fixture
def office(harness: Harness, operator: CommandRunner, tmp_path: Path) -> Iterator[Office]:
    one = Office(harness, operator, tmp_path)
    yield one
    one.close()
