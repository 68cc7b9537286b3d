"""`account`: holds placed and ended by an operator."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from http.server import BaseHTTPRequestHandler

import orjson
import pytest

from streamer.ledger.holds import By, Holds
from streamer.sandbox import Faults, SandboxProcess
from tests.kit.operator import Operator
from tests.kit.tls import Request, Server, reply
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
        batch = f"batch {tester['batch_id']} of {own_world.organization}"
        assert f"with {batch}" in account("list").output
        assert held["drawn_by"] == {**tester, "status": 429}
        assert f"answered with status 429 to {batch}" in account("list").output
        released = orjson.loads(account("release", "default", "--json").stdout)
        assert released["release"] == "released"
        # The same answer again holds only the sender's domain, which blocks no other sender.
        wait_until(lambda: held_domains(own_world) == {"acme.test"}, 20, "its domain is held")
        sandbox.calm()
        account("release", "default", "--domain", "acme.test")
        own_world.await_endings(100, 20)
    own_world.judge()


class _RefusesOneDomain(Server):
    """Answers the batches of one sender's domain as if the account had trouble; takes others."""

    refused = "culprit.test"

    def answer(self, handler: BaseHTTPRequestHandler, request: Request) -> None:
        mails = orjson.loads(request.body)
        if any(self.refused in mail["from"] for mail in mails):
            problem = {"statusCode": 403, "name": "email_above_quota", "message": "Above quota."}
            reply(handler, 403, orjson.dumps(problem))
            return
        ids = [{"id": mail["to"][0]} for mail in mails]
        reply(handler, 200, orjson.dumps({"data": ids}))


def test_a_release_sends_all_but_what_the_culprit_drew(own_world: World) -> None:
    """An answer to one domain's batch holds the account; released, it holds that domain alone."""
    account = partial(Operator.of_world(own_world).run, "account")
    resend = _RefusesOneDomain()
    own_world.settings |= {
        "STREAMER_DELIVERY__HOLD_PROBE_S": "3600",
        "RESEND_API_URL": resend.url,
    }
    culprit = {"from": "news@culprit.test", "subject": "s", "text": "t"}
    own_world.produce(own_world.event(n, message=culprit, campaign_id="c") for n in range(20))
    with resend.running(), own_world.worker():
        wait_until(lambda: len(own_world.parked()) == 20, 30, "the culprit's are parked")
        assert held_domains(own_world) == {None}
        own_world.produce(own_world.event(number) for number in range(20, 60))
        wait_until(lambda: len(own_world.parked()) == 60, 30, "the others wait as well")
        account("release", "default")
        own_world.await_endings(40, 30)
        wait_until(lambda: held_domains(own_world) == {"culprit.test"}, 20, "its domain is held")
        wait_until(lambda: len(own_world.parked()) == 20, 20, "the culprit's wait on")
        assert own_world.words() == {("sent", None): 40}
        resend.refused = "nobody.test"
        account("release", "default", "--domain", "culprit.test")
        own_world.await_endings(60, 30)
    assert own_world.words() == {("sent", None): 60}
