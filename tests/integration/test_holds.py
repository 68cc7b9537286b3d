"""Trouble that is nobody's fault: held accounts and domains, paused campaigns, and the way back."""

import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import orjson
import pytest

from streamer.flow.failure_stats import BACKPRESSURE_RECORDS
from streamer.ledger import campaigns, keys
from streamer.ledger.holds import By, Hold, Holds
from streamer.sandbox import AccountSpec, Faults, SandboxProcess
from tests.kit.harness import Harness, wait_until
from tests.kit.operator import CommandRunner

PROBE_S = "1"


def _parked(harness: Harness, count: int) -> Callable[[], bool]:
    return lambda: len(harness.parked()) == count


def _holds(harness: Harness, account: str = "default") -> dict[str | None, Hold]:
    return Holds(harness.redis).read([account])[account].holds


@pytest.fixture
def own_harness(make_redis: Callable[..., object], make_harness: Callable[..., Harness]) -> Harness:
    """A world whose accounts no other test shares."""
    harness = make_harness(redis=make_redis())
    harness.settings["STREAMER_DELIVERY__HOLD_PROBE_S"] = PROBE_S
    return harness


@pytest.mark.parametrize(
    ("faults", "reason"),
    [
        (Faults(quota="daily"), "daily_quota_exceeded"),
        (Faults(quota="monthly"), "monthly_quota_exceeded"),
        (Faults(refuse_key="invalid_api_key"), "invalid_api_key"),
        (Faults(refuse_key="suspended_api_key"), "suspended_api_key"),
        (Faults(refuse_key="restricted_api_key"), "restricted_api_key"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_held_account_recovers_by_itself(
    own_harness: Harness, sandbox: SandboxProcess, faults: Faults, reason: str
) -> None:
    sandbox.set_faults(faults)
    own_harness.produce(own_harness.event(number) for number in range(250))
    with own_harness.worker():
        wait_until(_parked(own_harness, 250), 30, "all are parked")
        assert {hold.reason for hold in _holds(own_harness).values()} == {reason}
        assert own_harness.resolutions() == []
        sandbox.reset_faults()
        own_harness.await_resolutions(250, 30)
        wait_until(lambda: not _holds(own_harness), 10, "the hold is over")
    assert own_harness.status_counts() == {("sent", None): 250}
    assert own_harness.parked() == []
    own_harness.assert_exactly_once()


def test_only_the_unverified_domain_is_held(own_harness: Harness, sandbox: SandboxProcess) -> None:
    sandbox.set_faults(Faults(unverified_domains=frozenset({"new.test"})))
    other = {"from": "new@new.test", "subject": "s", "text": "t {{ unsubscribe_url }}"}
    own_harness.produce(
        own_harness.event(n, **({"message": other, "campaign_id": "new"} if n % 2 else {}))
        for n in range(200)
    )
    with own_harness.worker():
        own_harness.await_resolutions(100, 30)
        wait_until(_parked(own_harness, 100), 20, "the others are parked")
        assert set(_holds(own_harness)) == {"new.test"}
        sandbox.reset_faults()
        own_harness.await_resolutions(200, 30)
    own_harness.assert_exactly_once()


def test_a_held_account_does_not_delay_another(
    make_harness: Callable[..., Harness],
) -> None:
    specs = [AccountSpec(name=name, keys=(f"re_{name}",)) for name in ("one", "two")]
    with SandboxProcess(limit=None, accounts=specs) as sandbox:
        harness = make_harness(stand_in=sandbox)
        two = f"other-{harness.name}"
        harness.settings |= {
            "STREAMER_DELIVERY__HOLD_PROBE_S": PROBE_S,
            # Beside the account `default`.
            "STREAMER_ACCOUNTS": orjson.dumps(
                {
                    f"two-{harness.name}": {
                        "api_key_env": "KEY_TWO",
                        "organizations": [two],
                        "requests_per_second": 1000,
                    }
                }
            ).decode(),
            "RESEND_API_KEY": "re_one",
            "KEY_TWO": "re_two",
        }
        sandbox.set_faults(Faults(refuse_key="suspended_api_key"), account="one")
        harness.produce(
            harness.event(n, **({"organization_id": two} if n % 2 else {})) for n in range(400)
        )
        with harness.worker():
            harness.await_resolutions(200, 30)
            wait_until(_parked(harness, 200), 20, "the others are parked")
            sandbox.reset_faults()
            harness.await_resolutions(400, 30)
        assert harness.status_counts() == {("sent", None): 400}


def test_the_window_restarts_if_all_calls_were_rejected(
    own_harness: Harness, sandbox: SandboxProcess
) -> None:
    own_harness.settings["STREAMER_DELIVERY__SAFE_WINDOW_S"] = "4"
    sandbox.set_faults(Faults(quota="daily"))
    own_harness.produce(own_harness.event(number) for number in range(100))
    with own_harness.worker():
        wait_until(_parked(own_harness, 100), 30, "all are parked")
        time.sleep(5)  # longer than the safe window
        sandbox.reset_faults()
        own_harness.await_resolutions(100, 20)
    assert own_harness.status_counts() == {("sent", None): 100}
    own_harness.assert_exactly_once()


def test_the_window_continues_if_a_call_may_be_accepted(
    own_harness: Harness, sandbox: SandboxProcess
) -> None:
    own_harness.settings["STREAMER_DELIVERY__SAFE_WINDOW_S"] = "6"
    sandbox.set_faults(Faults(outage="unavailable"))
    own_harness.produce(own_harness.event(number) for number in range(100))
    with own_harness.worker():
        wait_until(lambda: sandbox.stats().calls >= 1, 20, "one call failed")
        sandbox.reset_faults()
        sandbox.set_faults(Faults(quota="daily"))
        wait_until(_parked(own_harness, 100), 30, "all are parked")
        time.sleep(6)
        sandbox.reset_faults()
        own_harness.await_resolutions(100, 20)
    assert own_harness.status_counts() == {("indeterminate", "window_closed"): 100}


def test_the_window_continues_if_a_test_call_may_be_accepted(
    own_harness: Harness, sandbox: SandboxProcess
) -> None:
    own_harness.settings["STREAMER_DELIVERY__SAFE_WINDOW_S"] = "4"
    sandbox.set_faults(Faults(quota="daily"))
    own_harness.produce(own_harness.event(number) for number in range(10))
    with own_harness.worker():
        wait_until(_parked(own_harness, 10), 30, "all are parked")
        sandbox.reset_faults()
        sandbox.set_faults(Faults(outage="unavailable"))
        own_harness.await_resolutions(10, 25)  # no test gets through, until it is too late for one
    assert own_harness.status_counts() == {("indeterminate", "window_closed"): 10}


def test_a_paused_campaign_does_not_delay_others(harness: Harness) -> None:
    operator = CommandRunner.of_harness(harness)

    def campaign(verb: str, *options: str) -> None:
        operator.run("campaign", verb, operator.campaign, *options)

    operator.define()

    campaign("pause")
    campaign("pause")
    harness.produce(
        harness.event(n, **({"campaign_id": "summer"} if n % 2 else {})) for n in range(200)
    )
    with harness.worker():
        harness.await_resolutions(100, 30)
        wait_until(_parked(harness, 100), 20, "the paused ones are parked")
        campaign("resume")
        harness.await_resolutions(200, 30)
        campaign("pause")
        harness.produce(harness.event(n) for n in range(200, 250))
        wait_until(_parked(harness, 50), 20, "more are parked")
        campaign("cancel", "--yes")
        harness.await_resolutions(250, 30)
        assert "cancelled" in operator.run("campaign", "resume", operator.campaign, code=1).output
    assert harness.status_counts() == {("sent", None): 200, ("skipped", "cancelled"): 50}
    assert harness.parked() == []
    harness.assert_exactly_once()


def test_records_return_only_when_due(own_harness: Harness) -> None:
    command = CommandRunner.of_harness(own_harness).run
    for campaign_id in ("spring", "autumn"):
        campaigns.pause(own_harness.redis, own_harness.organization, campaign_id)
    command("account", "hold", "default", "--why", "a test")
    names = ("spring", "summer", "autumn")
    own_harness.produce(own_harness.event(n, campaign_id=names[n % 3]) for n in range(150))
    with own_harness.worker():
        wait_until(_parked(own_harness, 150), 30, "all are parked")
        campaigns.resume(own_harness.redis, own_harness.organization, "spring")
        wait_until(lambda: own_harness.returned().total() >= 50, 20, "a campaign comes back")
        wait_until(_parked(own_harness, 150), 20, "it waits for the account")
        assert own_harness.returned().total() == 50
        command("account", "release", "default")
        own_harness.await_resolutions(100, 20)
        wait_until(_parked(own_harness, 50), 10, "the others are parked on")
    assert own_harness.returned().total() == 50 + 100
    assert own_harness.status_counts() == {("sent", None): 100}
    own_harness.assert_exactly_once()


def test_an_isolated_failing_batch_is_deferred_then_given_up(
    own_harness: Harness, sandbox: SandboxProcess
) -> None:
    own_harness.settings |= {
        "STREAMER_DELIVERY__SET_ASIDE_S": "2",
        "STREAMER_DELIVERY__GIVE_UP_S": "6",
        "STREAMER_ACCOUNTS__DEFAULT__REQUESTS_PER_SECOND": "20",
        "STREAMER_BATCH__SIZE": "10",
    }
    sandbox.set_faults(Faults(fail_addresses=frozenset({"user5@example.com"})))
    own_harness.produce(own_harness.event(number) for number in range(1000))
    with own_harness.worker():
        wait_until(lambda: own_harness.parked(), 30, "the batch is set aside")
        own_harness.await_resolutions(990, 60)
        # It is given up only while others go through.
        numbers = iter(range(1000, 5000))

        def given_up() -> bool:
            own_harness.produce(own_harness.event(next(numbers)) for _ in range(20))
            return own_harness.status_counts()["indeterminate", "provider_error"] > 0

        wait_until(given_up, 60, "the batch is given up")
        own_harness.await_resolutions(next(numbers), 30)
    words = own_harness.status_counts()
    assert words["indeterminate", "provider_error"] == 10
    assert words["sent", None] == sum(words.values()) - 10
    own_harness.assert_exactly_once()


def test_a_batch_blocking_many_records_is_deferred_early(
    own_harness: Harness, sandbox: SandboxProcess
) -> None:
    own_harness.settings["STREAMER_DELIVERY__SET_ASIDE_S"] = "600"
    sandbox.set_faults(Faults(fail_addresses=frozenset({"user5@example.com"})))
    # What stands behind it in its partition cannot be committed before it.
    own_harness.produce([own_harness.event(5)], partition=0)
    count = BACKPRESSURE_RECORDS + 1_000
    own_harness.produce((own_harness.event(number) for number in range(6, 6 + count)), partition=0)
    with own_harness.worker():
        wait_until(own_harness.ever_parked, 60, "the batch is set aside")
        own_harness.await_resolutions(1 + count - own_harness.ever_parked(), 30)
    # That batch alone: others of its organization went through.
    assert own_harness.ever_parked() <= 100
    assert set(own_harness.status_counts()) == {("sent", None)}


def test_an_outage_gives_up_no_batch_and_makes_few_calls(
    own_harness: Harness, sandbox: SandboxProcess
) -> None:
    own_harness.settings |= {
        "STREAMER_DELIVERY__SET_ASIDE_S": "1",
        "STREAMER_DELIVERY__GIVE_UP_S": "2",
    }
    own_harness.produce(own_harness.event(number) for number in range(2000))
    sandbox.set_faults(Faults(outage="unavailable"))
    with own_harness.worker():
        wait_until(lambda: sandbox.stats().calls >= 5, 20, "calls fail")
        before = sandbox.stats().calls
        time.sleep(6)  # longer than a batch alone would be given
        assert sandbox.stats().calls - before < 30
        sandbox.reset_faults()
        own_harness.await_resolutions(2000, 30)
    assert own_harness.status_counts() == {("sent", None): 2000}
    own_harness.assert_exactly_once()


def test_an_outage_parks_no_records(own_harness: Harness, sandbox: SandboxProcess) -> None:
    own_harness.settings |= {
        "STREAMER_BATCH__SIZE": "10",
        "STREAMER_BATCH__MAX_IN_FLIGHT": "2",
    }
    # More than an organization in trouble may have waiting beside others that go through.
    own_harness.produce(own_harness.event(number) for number in range(1000))
    sandbox.set_faults(Faults(outage="unavailable"))
    with own_harness.worker():
        wait_until(lambda: sandbox.stats().calls >= 8, 40, "batches fail again and again")
        sandbox.reset_faults()
        own_harness.await_resolutions(1000, 60)
    assert own_harness.ever_parked() == 0
    assert own_harness.status_counts() == {("sent", None): 1000}
    own_harness.assert_exactly_once()


def test_records_without_account_wait_until_one_serves_them(own_harness: Harness) -> None:
    own_harness.settings["STREAMER_ACCOUNTS__DEFAULT__ORGANIZATIONS"] = '["somebody-else"]'
    own_harness.produce(own_harness.event(number) for number in range(50))
    with own_harness.worker() as worker:
        wait_until(_parked(own_harness, 50), 30, "all are parked")
        assert "no account serves the organization" in worker.words()
    del own_harness.settings["STREAMER_ACCOUNTS__DEFAULT__ORGANIZATIONS"]
    with own_harness.worker():
        own_harness.await_resolutions(50, 30)
    assert own_harness.status_counts() == {("sent", None): 50}
    own_harness.assert_exactly_once()


def test_records_return_in_order(own_harness: Harness, sandbox: SandboxProcess) -> None:
    sandbox.set_faults(Faults(quota="monthly"))
    own_harness.settings["STREAMER_BATCH__SIZE"] = "10"
    own_harness.settings["STREAMER_BATCH__MAX_IN_FLIGHT"] = "1"
    own_harness.produce((own_harness.event(number) for number in range(100)), partition=1)
    with own_harness.worker():
        wait_until(_parked(own_harness, 100), 30, "all are parked")
        own_harness.produce((own_harness.event(number) for number in range(100, 200)), partition=1)
        wait_until(_parked(own_harness, 200), 30, "the others too")
        sandbox.reset_faults()
        own_harness.await_resolutions(200, 30)
    sent = [acceptance.address for acceptance in sandbox.acceptances()]
    # The batch that tested the hold went first, and that was the first as well.
    assert sent == [f"user{number}@example.com" for number in range(200)]
    assert set(own_harness.returned()) == {1}
    own_harness.assert_exactly_once()


def test_a_relay_crash_loses_and_duplicates_nothing(
    own_harness: Harness, sandbox: SandboxProcess
) -> None:
    own_harness.settings["STREAMER_DELIVERY__HOLD_PROBE_S"] = "3600"
    holds = Holds(own_harness.redis)
    hold = Hold(by=By.OPERATOR, reason="operator", detail="", since=datetime.now(UTC))
    holds.put("default", None, hold)
    own_harness.produce(own_harness.event(number) for number in range(6000))
    workers = [own_harness.start_worker(number) for number in range(2)]
    wait_until(_parked(own_harness, 6000), 60, "all are parked")
    for _ in range(4):
        holds.release("default", None, By.OPERATOR)
        wait_until(lambda: len(own_harness.parked()) < 6000, 30, "a pass has begun")
        holds.put("default", None, hold)
        for number, worker in enumerate(workers):
            worker.kill()
            workers[number] = own_harness.start_worker(number)
    holds.release("default", None, By.OPERATOR)
    own_harness.await_resolutions(6000, 120)
    for worker in workers:
        assert worker.stop() in (0, -signal.SIGTERM), worker.words()  # or it was only starting
    own_harness.assert_exactly_once()


def test_a_failing_organization_does_not_block_others(
    own_harness: Harness, sandbox: SandboxProcess
) -> None:
    own_harness.settings |= {
        "STREAMER_DELIVERY__SET_ASIDE_S": "2",
        "STREAMER_ACCOUNTS__DEFAULT__REQUESTS_PER_SECOND": "50",
        "STREAMER_BATCH__SIZE": "10",
        "STREAMER_BATCH__MAX_IN_FLIGHT": "4",
    }
    sandbox.set_faults(Faults(fail_addresses=frozenset({"@poison.test"})))
    # Many times what a worker queues, which is 80.
    own_harness.produce(
        own_harness.event(
            number,
            organization_id=f"{own_harness.organization}-{number % 4}",
            email=f"user{number}@{'poison' if number % 4 == 0 else 'example'}.test",
        )
        for number in range(2_000)
    )
    with own_harness.worker():
        # Not their outcomes: some wait for records that nothing ends while all that is left fails.
        wait_until(lambda: sandbox.stats().accepted == 1_500, 60, "all others are sent")
        sandbox.reset_faults()
        own_harness.await_resolutions(2_000, 60)


def test_a_campaign_waits_for_its_start(harness: Harness) -> None:
    operator = CommandRunner.of_harness(harness)
    start = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    content = ("--from", "a <a@acme.test>", "--subject", "s", "--text", "-", "--start-at", start)
    text = b"hello {{ unsubscribe_url }}"
    operator.run("campaign", "create", operator.campaign, *content, stdin=text)
    harness.produce(harness.event(number, message=None) for number in range(50))
    with harness.worker():
        wait_until(_parked(harness, 50), 30, "all wait")
        for command in (["campaign", "show"], ["progress"]):
            assert operator.answer(*command, operator.campaign)["state"] == "paused"
        harness.redis.hset(
            keys.campaign(harness.organization, "spring"), "start_at", str(int(time.time()) + 2)
        )
        harness.await_resolutions(50, 30)
    assert harness.status_counts() == {("sent", None): 50}
    harness.assert_exactly_once()
