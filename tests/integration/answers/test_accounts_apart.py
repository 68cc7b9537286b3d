"""Accounts of which one has trouble: the others go on, and it loses nobody."""

import signal
from collections import Counter
from collections.abc import Callable

import orjson
import pytest

from streamer.ledger.holds import Holds
from streamer.sandbox import AccountSpec, Faults, Play, SandboxProcess
from streamer.stack import RedisServer
from tests.integration.answers.table import FEW, INVALID_KEY, json_error, page, sent
from tests.kit.harness import Harness, wait_until

INVALID_FIELD = json_error(400, "Invalid field.", name="validation_error")


def test_a_batch_of_a_removed_account_waits(
    own_harness: Harness,
) -> None:
    own = {"gone": {"organizations": [own_harness.organization]}}
    other = f"other-{own_harness.name}"
    own_harness.organizations.add(other)
    own_harness.produce(own_harness.event(number) for number in range(FEW))
    own_harness.settings["STREAMER_ACCOUNTS"] = orjson.dumps({"default": {}, **own}).decode()
    doomed = own_harness.start_worker(crash_at="after_pin")
    assert doomed.wait() == -signal.SIGKILL
    own_harness.settings["STREAMER_ACCOUNTS"] = orjson.dumps({"default": {}}).decode()
    with own_harness.worker() as left:
        wait_until(lambda: len(own_harness.parked()) == FEW, 30, "the batch waits for its account")
        own_harness.produce([own_harness.event(0, organization_id=other)])
        own_harness.await_resolutions(1, 30)
    assert left.words().count("account is no longer in the settings") == 1
    assert own_harness.status_counts() == sent(1)
    own_harness.assert_exactly_once()


def test_an_outage_of_one_of_several_accounts_holds_it(
    make_redis: Callable[[], RedisServer], make_harness: Callable[..., Harness]
) -> None:
    """Nothing that keeps failing stands in the way of others for long."""
    specs = [AccountSpec(name=name, keys=(f"re_{name}",), limit=None) for name in ("one", "two")]
    with SandboxProcess(accounts=specs) as sandbox:
        harness = make_harness(redis=make_redis(), stand_in=sandbox)
        down = f"down-{harness.name}"
        harness.organizations.add(down)
        harness.settings |= {
            "STREAMER_DELIVERY__HOLD_PROBE_S": "1",
            "STREAMER_DELIVERY__SET_ASIDE_S": "2",
            "STREAMER_BATCH__LINGER_MS": "1000",
            "STREAMER_BATCH__SIZE": str(FEW),
            # Beside the account `default`.
            "STREAMER_ACCOUNTS": orjson.dumps(
                {"two": {"api_key_env": "KEY_TWO", "organizations": [down]}}
            ).decode(),
            "RESEND_API_KEY": "re_one",
            "KEY_TWO": "re_two",
        }
        sandbox.set_faults(Faults(outage="unavailable"), account="two")
        sandbox.set_faults(Faults(fail_addresses=frozenset({"user0@example.com"})), account="one")
        # Two batches: one alone could be the batch's own trouble.
        harness.produce(harness.event(number, organization_id=down) for number in range(2 * FEW))
        harness.produce(harness.event(number) for number in range(FEW))
        numbers = iter(range(FEW, 1000))

        def both_wait() -> bool:
            harness.produce(harness.event(next(numbers)) for _ in range(FEW))
            return len(harness.parked()) == 3 * FEW

        with harness.worker():
            wait_until(lambda: len(sandbox.calls()) >= 2, 30, "calls fail")
            wait_until(both_wait, 60, "the account's and the batch's records are parked")
            states = Holds(harness.redis).read(["default", "two"])
            assert [hold.reason for hold in states["two"].holds.values()] == ["outage"]
            assert not states["default"].holds
            count = next(numbers)
            harness.await_resolutions(count - FEW, 30)
            assert {status for status, _ in harness.status_counts()} == {"sent"}
            sandbox.reset_faults()
            harness.await_resolutions(count + 2 * FEW, 60)
        assert harness.status_counts() == sent(count + 2 * FEW)
        harness.assert_exactly_once()


@pytest.mark.parametrize(
    "plays",
    [
        (INVALID_KEY,),
        (page(400),),
        (INVALID_FIELD.model_copy(update={"times": 4}), page(400)),
    ],
    ids=["400, key", "400, a page", "400, a page, in halves"],
)
def test_a_temporarily_rejected_account_stops_no_other(
    make_redis: Callable[[], RedisServer],
    make_harness: Callable[..., Harness],
    plays: tuple[Play, ...],
) -> None:
    """What is refused for the key, or by what stands on the way, fails nobody and is over once
    it is; halves that were taken meanwhile do not go out again as a whole."""
    specs = [AccountSpec(name=name, keys=(f"re_{name}",), limit=50) for name in ("one", "two")]
    with SandboxProcess(accounts=specs, latency_ms=10) as sandbox:
        harness = make_harness(redis=make_redis(), stand_in=sandbox)
        refused = f"refused-{harness.name}"
        harness.organizations.add(refused)
        harness.settings |= {
            "RESEND_API_KEY": "re_one",
            "RESEND_API_KEY_2": "re_two",
            "STREAMER_ACCOUNTS__TWO__API_KEY_ENV": "RESEND_API_KEY_2",
            "STREAMER_ACCOUNTS__TWO__ORGANIZATIONS": orjson.dumps([refused]).decode(),
            "STREAMER_ACCOUNTS__TWO__REQUESTS_PER_SECOND": "50",
            "STREAMER_DELIVERY__HOLD_PROBE_S": "1",
            "STREAMER_BATCH__SIZE": "20",
        }
        own = 40 * 20
        harness.produce(harness.event(number) for number in range(own))
        harness.produce(harness.event(number, organization_id=refused) for number in range(own))

        def done() -> Counter[str]:
            return Counter(a.organization for a in sandbox.acceptances())

        with harness.worker():
            wait_until(lambda: 0 < done()[refused] < own / 2, 30, "it is in mid-run")
            sandbox.play(*plays, account="two")
            wait_until(lambda: done()[harness.organization] == own, 30, "the other account is done")
            at_peace = done()[refused]
            assert at_peace < own
            sandbox.reset_faults()
            harness.await_resolutions(2 * own, 60)
        stats = sandbox.stats()
        assert (stats.accepted_twice, sandbox.repeats()) == (0, [])
        assert harness.status_counts() == {("sent", None): 2 * own}
        assert stats.accounts["two"].answers["400:played"] < 100
        harness.assert_exactly_once()
