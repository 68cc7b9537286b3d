"""What tests on real servers share: somebody at a terminal, and what others do meanwhile."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from streamer.stack import Stack
from tests.kit.office import Office
from tests.kit.operator import Operator
from tests.kit.records import Records
from tests.kit.world import World


@pytest.fixture
def operator(request: pytest.FixtureRequest, stack: Stack) -> Operator:
    """Of the test's world, where it has one; else with topics of their own."""
    if "world" in request.fixturenames:
        return Operator.of_world(request.getfixturevalue("world"))
    return Operator.of_stack(stack)


@pytest.fixture
def records(world: World) -> Records:
    return Records(world)


@pytest.fixture
def office(world: World, operator: Operator, tmp_path: Path) -> Iterator[Office]:
    one = Office(world, operator, tmp_path)
    yield one
    one.close()
