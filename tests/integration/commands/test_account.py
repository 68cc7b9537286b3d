"""`account`: holds placed and ended by an operator."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

import orjson
import pytest

from streamer.ledger.holds import By, Holds
from streamer.sandbox import Faults, SandboxProcess
from tests.kit.operator import Operator
from tests.kit.world import World, wait_until

PROBE_S = "1"


@pytest.fixture
def own_world(make_redis: Callable[..., object], make_world: Callable[..., World]) -> World:
    """A world with an account of its own."""
    world = make_world(redis=make_redis())
    world.settings["STREAMER_DELIVERY__HOLD_PROBE_S"] = PROBE_S
    return world


def held_domains(world: World) -> set[str | None]:
    return set(Holds(world.redis).read(["default"])["default"].holds)


def test_only_an_operator_ends_an_operator_hold(own_world: World) -> None:
    account = partial(Operator.of_world(own_world).run, "account")
    account("hold", "default", "--why", "a test")
    own_world.produce(own_world.event(number) for number in range(100))
    with own_world.worker():
        wait_until(lambda: len(own_world.parked()) == 100, 30, "all are parked")
        listed = orjson.loads(account("list", "--json").stdout)
        assert [hold["detail"] for hold in listed[0]["holds"]] == ["a test"]
        assert listed[0]["holds"][0]["by"] == By.OPERATOR
        assert "a test" in account("list").output
        time.sleep(2 * float(PROBE_S))  # nothing must happen, so there is no condition to wait for
        assert own_world.sandbox.stats().calls == 0
        assert "released" in account("release", "default").output
        own_world.await_endings(100, 20)
    assert "was not held" in account("release", "default").output
    own_world.judge()


def test_release_ends_a_hold_immediately(own_world: World, sandbox: SandboxProcess) -> None:
    own_world.settings["STREAMER_DELIVERY__HOLD_PROBE_S"] = "3600"
    account = partial(Operator.of_world(own_world).run, "account")
    sandbox.order(Faults(quota="monthly"))
    own_world.produce(own_world.event(number) for number in range(100))
    with own_world.worker():
        wait_until(lambda: len(own_world.parked()) == 100, 30, "all are parked")
        held = orjson.loads(account("list", "--json").stdout)[0]["holds"][0]
        assert datetime.fromisoformat(held["next_test"]) > datetime.now(UTC)
        (tester,) = held["tested_with"]
        batch = f"with batch {tester['batch_id']} of {own_world.organization}"
        assert batch in account("list").output
        released = orjson.loads(account("release", "default", "--json").stdout)
        assert released["release"] == "released"
        # The same answer again holds only the sender's domain, which blocks no other sender.
        wait_until(lambda: held_domains(own_world) == {"acme.test"}, 20, "its domain is held")
        sandbox.calm()
        account("release", "default", "--domain", "acme.test")
        own_world.await_endings(100, 20)
    own_world.judge()
