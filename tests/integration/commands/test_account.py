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
from tests.kit.harness import Harness, wait_until
from tests.kit.operator import CommandRunner
from tests.kit.tls import TlsRequest, TlsServer, reply

PROBE_S = "1"


@pytest.fixture
def own_harness(make_redis: Callable[..., object], make_harness: Callable[..., Harness]) -> Harness:
    """A world with an account of its own."""
    harness = make_harness(redis=make_redis())
    harness.settings["STREAMER_DELIVERY__HOLD_PROBE_S"] = PROBE_S
    return harness


def held_domains(harness: Harness) -> set[str | None]:
    return set(Holds(harness.redis).read(["default"])["default"].holds)


def test_only_an_operator_ends_an_operator_hold(own_harness: Harness) -> None:
    account = partial(CommandRunner.of_harness(own_harness).run, "account")
    account("hold", "default", "--why", "a test")
    own_harness.produce(own_harness.event(number) for number in range(100))
    with own_harness.worker():
        wait_until(lambda: len(own_harness.parked()) == 100, 30, "all are parked")
        listed = orjson.loads(account("list", "--json").stdout)
        assert [hold["detail"] for hold in listed[0]["holds"]] == ["a test"]
        assert listed[0]["holds"][0]["by"] == By.OPERATOR
        assert "a test" in account("list").output
        time.sleep(2 * float(PROBE_S))  # nothing must happen, so there is no condition to wait for
        assert own_harness.sandbox.stats().calls == 0
        assert "released" in account("release", "default").output
        own_harness.await_resolutions(100, 20)
    assert "was not held" in account("release", "default").output
    own_harness.assert_exactly_once()


def test_release_ends_a_hold_immediately(own_harness: Harness, sandbox: SandboxProcess) -> None:
    own_harness.settings["STREAMER_DELIVERY__HOLD_PROBE_S"] = "3600"
    account = partial(CommandRunner.of_harness(own_harness).run, "account")
    sandbox.set_faults(Faults(quota="monthly"))
    own_harness.produce(own_harness.event(number) for number in range(100))
    with own_harness.worker():
        wait_until(lambda: len(own_harness.parked()) == 100, 30, "all are parked")
        held = orjson.loads(account("list", "--json").stdout)[0]["holds"][0]
        assert datetime.fromisoformat(held["next_test"]) > datetime.now(UTC)
        (tester,) = held["tested_with"]
        batch = f"batch {tester['batch_id']} of {own_harness.organization}"
        assert f"with {batch}" in account("list").output
        assert held["drawn_by"] == {**tester, "status": 429}
        assert f"answered with status 429 to {batch}" in account("list").output
        released = orjson.loads(account("release", "default", "--json").stdout)
        assert released["release"] == "released"
        # The same answer again holds only the sender's domain, which blocks no other sender.
        wait_until(lambda: held_domains(own_harness) == {"acme.test"}, 20, "its domain is held")
        sandbox.reset_faults()
        account("release", "default", "--domain", "acme.test")
        own_harness.await_resolutions(100, 20)
    own_harness.assert_exactly_once()


class _RefusesOneDomain(TlsServer):
    """Answers the batches of one sender's domain as if the account had trouble; takes others."""

    refused = "culprit.test"

    def answer(self, handler: BaseHTTPRequestHandler, request: TlsRequest) -> None:
        mails = orjson.loads(request.body)
        if any(self.refused in mail["from"] for mail in mails):
            problem = {"statusCode": 403, "name": "email_above_quota", "message": "Above quota."}
            reply(handler, 403, orjson.dumps(problem))
            return
        ids = [{"id": mail["to"][0]} for mail in mails]
        reply(handler, 200, orjson.dumps({"data": ids}))


def test_a_release_sends_all_but_the_culprits_mail(own_harness: Harness) -> None:
    """An answer to one domain's batch holds the account; released, it holds that domain alone."""
    account = partial(CommandRunner.of_harness(own_harness).run, "account")
    resend = _RefusesOneDomain()
    own_harness.settings |= {
        "STREAMER_DELIVERY__HOLD_PROBE_S": "3600",
        "RESEND_API_URL": resend.url,
    }
    culprit = {"from": "news@culprit.test", "subject": "s", "text": "t"}
    own_harness.produce(own_harness.event(n, message=culprit, campaign_id="c") for n in range(20))
    with resend.running(), own_harness.worker():
        wait_until(lambda: len(own_harness.parked()) == 20, 30, "the culprit's are parked")
        assert held_domains(own_harness) == {None}
        own_harness.produce(own_harness.event(number) for number in range(20, 60))
        wait_until(lambda: len(own_harness.parked()) == 60, 30, "the others wait as well")
        account("release", "default")
        own_harness.await_resolutions(40, 30)
        wait_until(lambda: held_domains(own_harness) == {"culprit.test"}, 20, "its domain is held")
        wait_until(lambda: len(own_harness.parked()) == 20, 20, "the culprit's wait on")
        assert own_harness.status_counts() == {("sent", None): 40}
        resend.refused = "nobody.test"
        account("release", "default", "--domain", "culprit.test")
        own_harness.await_resolutions(60, 30)
    assert own_harness.status_counts() == {("sent", None): 60}
