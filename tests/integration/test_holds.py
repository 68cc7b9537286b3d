"""Trouble that is nobody's fault: held accounts and domains, paused campaigns, and the way back."""

import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import orjson
import pytest

from streamer.flow.verdicts import PRESSED_RECORDS
from streamer.ledger import keys
from streamer.ledger.holds import By, Hold, Holds
from streamer.sandbox import AccountSpec, Faults, SandboxProcess
from tests.kit.operator import Operator
from tests.kit.world import World, wait_until

PROBE_S = "1"


def _parked(world: World, count: int) -> Callable[[], bool]:
    return lambda: len(world.parked()) == count


def _holds(world: World, account: str = "default") -> dict[str | None, Hold]:
    return Holds(world.redis).read([account])[account].holds


@pytest.fixture
def own_world(make_redis: Callable[..., object], make_world: Callable[..., World]) -> World:
    """A world whose accounts no other test shares."""
    world = make_world(redis=make_redis())
    world.settings["STREAMER_DELIVERY__HOLD_PROBE_S"] = PROBE_S
    return world


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
def test_an_account_is_held_and_comes_back_by_itself(
    own_world: World, sandbox: SandboxProcess, faults: Faults, reason: str
) -> None:
    sandbox.order(faults)
    own_world.produce(own_world.event(number) for number in range(250))
    with own_world.worker():
        wait_until(_parked(own_world, 250), 30, "all are parked")
        assert {hold.reason for hold in _holds(own_world).values()} == {reason}
        assert own_world.endings() == []
        sandbox.calm()
        own_world.await_endings(250, 30)
        wait_until(lambda: not _holds(own_world), 10, "the hold is over")
    assert own_world.words() == {("sent", None): 250}
    assert own_world.parked() == []
    own_world.judge()


def test_only_the_domain_that_is_not_verified_is_held(
    own_world: World, sandbox: SandboxProcess
) -> None:
    sandbox.order(Faults(unverified_domains=frozenset({"new.test"})))
    other = {"from": "new@new.test", "subject": "s", "text": "t {{ unsubscribe_url }}"}
    own_world.produce(
        own_world.event(n, **({"message": other, "campaign_id": "new"} if n % 2 else {}))
        for n in range(200)
    )
    with own_world.worker():
        own_world.await_endings(100, 30)
        wait_until(_parked(own_world, 100), 20, "the others are parked")
        assert set(_holds(own_world)) == {"new.test"}
        sandbox.calm()
        own_world.await_endings(200, 30)
    own_world.judge()


def test_a_held_account_does_not_hold_up_another(
    make_world: Callable[..., World],
) -> None:
    specs = [AccountSpec(name=name, keys=(f"re_{name}",)) for name in ("one", "two")]
    with SandboxProcess(limit=None, accounts=specs) as sandbox:
        world = make_world(stand_in=sandbox)
        two = f"other-{world.name}"
        world.settings |= {
            "STREAMER_DELIVERY__HOLD_PROBE_S": PROBE_S,
            # Beside the account `default`.
            "STREAMER_ACCOUNTS": orjson.dumps(
                {
                    f"two-{world.name}": {
                        "api_key_env": "KEY_TWO",
                        "organizations": [two],
                        "requests_per_second": 1000,
                    }
                }
            ).decode(),
            "RESEND_API_KEY": "re_one",
            "KEY_TWO": "re_two",
        }
        sandbox.order(Faults(refuse_key="suspended_api_key"), account="one")
        world.produce(
            world.event(n, **({"organization_id": two} if n % 2 else {})) for n in range(400)
        )
        with world.worker():
            world.await_endings(200, 30)
            wait_until(_parked(world, 200), 20, "the others are parked")
            sandbox.calm()
            world.await_endings(400, 30)
        assert world.words() == {("sent", None): 400}


def test_the_safe_window_starts_anew_if_all_calls_were_refused(
    own_world: World, sandbox: SandboxProcess
) -> None:
    own_world.settings["STREAMER_DELIVERY__SAFE_WINDOW_S"] = "4"
    sandbox.order(Faults(quota="daily"))
    own_world.produce(own_world.event(number) for number in range(100))
    with own_world.worker():
        wait_until(_parked(own_world, 100), 30, "all are parked")
        time.sleep(5)  # longer than the safe window
        sandbox.calm()
        own_world.await_endings(100, 20)
    assert own_world.words() == {("sent", None): 100}
    own_world.judge()


def test_the_safe_window_goes_on_if_a_call_may_have_been_taken(
    own_world: World, sandbox: SandboxProcess
) -> None:
    own_world.settings["STREAMER_DELIVERY__SAFE_WINDOW_S"] = "6"
    sandbox.order(Faults(outage="unavailable"))
    own_world.produce(own_world.event(number) for number in range(100))
    with own_world.worker():
        wait_until(lambda: sandbox.stats().calls >= 1, 20, "one call failed")
        sandbox.calm()
        sandbox.order(Faults(quota="daily"))
        wait_until(_parked(own_world, 100), 30, "all are parked")
        time.sleep(6)
        sandbox.calm()
        own_world.await_endings(100, 20)
    assert own_world.words() == {("indeterminate", "window_closed"): 100}


def test_the_safe_window_goes_on_if_a_test_of_the_hold_may_have_been_taken(
    own_world: World, sandbox: SandboxProcess
) -> None:
    own_world.settings["STREAMER_DELIVERY__SAFE_WINDOW_S"] = "4"
    sandbox.order(Faults(quota="daily"))
    own_world.produce(own_world.event(number) for number in range(10))
    with own_world.worker():
        wait_until(_parked(own_world, 10), 30, "all are parked")
        sandbox.calm()
        sandbox.order(Faults(outage="unavailable"))
        own_world.await_endings(10, 25)  # no test gets through, until it is too late for one
    assert own_world.words() == {("indeterminate", "window_closed"): 10}


def test_a_paused_campaign_waits_and_others_go_on(world: World) -> None:
    operator = Operator.of_world(world)

    def campaign(verb: str) -> None:
        operator.run("campaign", verb, operator.campaign)

    campaign("pause")
    campaign("pause")
    world.produce(
        world.event(n, **({"campaign_id": "summer"} if n % 2 else {})) for n in range(200)
    )
    with world.worker():
        world.await_endings(100, 30)
        wait_until(_parked(world, 100), 20, "the paused ones are parked")
        campaign("resume")
        world.await_endings(200, 30)
        campaign("pause")
        world.produce(world.event(n) for n in range(200, 250))
        wait_until(_parked(world, 50), 20, "more are parked")
        campaign("cancel")
        world.await_endings(250, 30)
        assert "cancelled" in operator.run("campaign", "resume", operator.campaign, code=1).output
    assert world.words() == {("sent", None): 200, ("skipped", "cancelled"): 50}
    assert world.parked() == []
    world.judge()


def test_only_that_comes_back_whose_time_has_come(own_world: World) -> None:
    command = Operator.of_world(own_world).run
    command("campaign", "pause", f"{own_world.organization}/spring")
    command("campaign", "pause", f"{own_world.organization}/autumn")
    command("account", "hold", "default", "--why", "a test")
    names = ("spring", "summer", "autumn")
    own_world.produce(own_world.event(n, campaign_id=names[n % 3]) for n in range(150))
    with own_world.worker():
        wait_until(_parked(own_world, 150), 30, "all are parked")
        command("campaign", "resume", f"{own_world.organization}/spring")
        wait_until(lambda: own_world.returned().total() >= 50, 20, "a campaign comes back")
        wait_until(_parked(own_world, 150), 20, "it waits for the account")
        assert own_world.returned().total() == 50
        command("account", "release", "default")
        own_world.await_endings(100, 20)
        wait_until(_parked(own_world, 50), 10, "the others are parked on")
    assert own_world.returned().total() == 50 + 100
    assert own_world.words() == {("sent", None): 100}
    own_world.judge()


def test_a_batch_that_fails_alone_is_set_aside_and_given_up(
    own_world: World, sandbox: SandboxProcess
) -> None:
    own_world.settings |= {
        "STREAMER_DELIVERY__SET_ASIDE_S": "2",
        "STREAMER_DELIVERY__GIVE_UP_S": "6",
        "STREAMER_ACCOUNTS__DEFAULT__REQUESTS_PER_SECOND": "20",
        "STREAMER_BATCH__SIZE": "10",
    }
    sandbox.order(Faults(poison=frozenset({"user5@example.com"})))
    own_world.produce(own_world.event(number) for number in range(1000))
    with own_world.worker():
        wait_until(lambda: own_world.parked(), 30, "the batch is set aside")
        own_world.await_endings(990, 60)
        # It is given up only while others go through.
        numbers = iter(range(1000, 5000))

        def given_up() -> bool:
            own_world.produce(own_world.event(next(numbers)) for _ in range(20))
            return own_world.words()["indeterminate", "provider_error"] > 0

        wait_until(given_up, 60, "the batch is given up")
        own_world.await_endings(next(numbers), 30)
    words = own_world.words()
    assert words["indeterminate", "provider_error"] == 10
    assert words["sent", None] == sum(words.values()) - 10
    own_world.judge()


def test_a_batch_that_holds_up_very_many_is_set_aside_before_its_time(
    own_world: World, sandbox: SandboxProcess
) -> None:
    own_world.settings["STREAMER_DELIVERY__SET_ASIDE_S"] = "600"
    sandbox.order(Faults(poison=frozenset({"user5@example.com"})))
    # What stands behind it in its partition cannot be committed before it.
    own_world.produce([own_world.event(5)], partition=0)
    count = PRESSED_RECORDS + 1_000
    own_world.produce((own_world.event(number) for number in range(6, 6 + count)), partition=0)
    with own_world.worker():
        wait_until(own_world.ever_parked, 60, "the batch is set aside")
        own_world.await_endings(1 + count - own_world.ever_parked(), 30)
    # That batch alone: others of its organization went through.
    assert own_world.ever_parked() <= 100
    assert set(own_world.words()) == {("sent", None)}


def test_an_outage_gives_nobody_up_and_burns_few_calls(
    own_world: World, sandbox: SandboxProcess
) -> None:
    own_world.settings |= {
        "STREAMER_DELIVERY__SET_ASIDE_S": "1",
        "STREAMER_DELIVERY__GIVE_UP_S": "2",
    }
    own_world.produce(own_world.event(number) for number in range(2000))
    sandbox.order(Faults(outage="unavailable"))
    with own_world.worker():
        wait_until(lambda: sandbox.stats().calls >= 5, 20, "calls fail")
        before = sandbox.stats().calls
        time.sleep(6)  # longer than a batch alone would be given
        assert sandbox.stats().calls - before < 30
        sandbox.calm()
        own_world.await_endings(2000, 30)
    assert own_world.words() == {("sent", None): 2000}
    own_world.judge()


def test_an_outage_moves_nobody_s_records_about(own_world: World, sandbox: SandboxProcess) -> None:
    own_world.settings |= {
        "STREAMER_BATCH__SIZE": "10",
        "STREAMER_BATCH__MAX_IN_FLIGHT": "2",
    }
    # More than an organization in trouble may have waiting beside others that go through.
    own_world.produce(own_world.event(number) for number in range(1000))
    sandbox.order(Faults(outage="unavailable"))
    with own_world.worker():
        wait_until(lambda: sandbox.stats().calls >= 8, 40, "batches fail again and again")
        sandbox.calm()
        own_world.await_endings(1000, 60)
    assert own_world.ever_parked() == 0
    assert own_world.words() == {("sent", None): 1000}
    own_world.judge()


def test_records_of_no_account_wait_until_one_serves_them(own_world: World) -> None:
    own_world.settings["STREAMER_ACCOUNTS__DEFAULT__ORGANIZATIONS"] = '["somebody-else"]'
    own_world.produce(own_world.event(number) for number in range(50))
    with own_world.worker() as worker:
        wait_until(_parked(own_world, 50), 30, "all are parked")
        assert "no account serves the organization" in worker.words()
    del own_world.settings["STREAMER_ACCOUNTS__DEFAULT__ORGANIZATIONS"]
    with own_world.worker():
        own_world.await_endings(50, 30)
    assert own_world.words() == {("sent", None): 50}
    own_world.judge()


def test_records_come_back_in_their_order(own_world: World, sandbox: SandboxProcess) -> None:
    sandbox.order(Faults(quota="monthly"))
    own_world.settings["STREAMER_BATCH__SIZE"] = "10"
    own_world.settings["STREAMER_BATCH__MAX_IN_FLIGHT"] = "1"
    own_world.produce((own_world.event(number) for number in range(100)), partition=1)
    with own_world.worker():
        wait_until(_parked(own_world, 100), 30, "all are parked")
        own_world.produce((own_world.event(number) for number in range(100, 200)), partition=1)
        wait_until(_parked(own_world, 200), 30, "the others too")
        sandbox.calm()
        own_world.await_endings(200, 30)
    sent = [acceptance.address for acceptance in sandbox.acceptances()]
    # The batch that tested the hold went first, and that was the first as well.
    assert sent == [f"user{number}@example.com" for number in range(200)]
    assert set(own_world.returned()) == {1}
    own_world.judge()


def test_a_worker_that_dies_in_a_pass_loses_and_doubles_nothing(
    own_world: World, sandbox: SandboxProcess
) -> None:
    own_world.settings["STREAMER_DELIVERY__HOLD_PROBE_S"] = "3600"
    holds = Holds(own_world.redis)
    hold = Hold(by=By.OPERATOR, reason="operator", detail="", since=datetime.now(UTC))
    holds.put("default", None, hold)
    own_world.produce(own_world.event(number) for number in range(6000))
    workers = [own_world.start_worker(number) for number in range(2)]
    wait_until(_parked(own_world, 6000), 60, "all are parked")
    for _ in range(4):
        holds.release("default", None, By.OPERATOR)
        wait_until(lambda: len(own_world.parked()) < 6000, 30, "a pass has begun")
        holds.put("default", None, hold)
        for number, worker in enumerate(workers):
            worker.kill()
            workers[number] = own_world.start_worker(number)
    holds.release("default", None, By.OPERATOR)
    own_world.await_endings(6000, 120)
    for worker in workers:
        assert worker.stop() in (0, -signal.SIGTERM), worker.words()  # or it was only starting
    own_world.judge()


def test_an_organization_whose_batches_all_fail_keeps_no_other_out(
    own_world: World, sandbox: SandboxProcess
) -> None:
    own_world.settings |= {
        "STREAMER_DELIVERY__SET_ASIDE_S": "2",
        "STREAMER_ACCOUNTS__DEFAULT__REQUESTS_PER_SECOND": "50",
        "STREAMER_BATCH__SIZE": "10",
        "STREAMER_BATCH__MAX_IN_FLIGHT": "4",
    }
    sandbox.order(Faults(poison=frozenset({"@poison.test"})))
    # Many times what a worker queues, which is 80.
    own_world.produce(
        own_world.event(
            number,
            organization_id=f"{own_world.organization}-{number % 4}",
            email=f"user{number}@{'poison' if number % 4 == 0 else 'example'}.test",
        )
        for number in range(2_000)
    )
    with own_world.worker():
        # Not their outcomes: some wait for records that nothing ends while all that is left fails.
        wait_until(lambda: sandbox.stats().accepted == 1_500, 60, "all others are sent")
        sandbox.calm()
        own_world.await_endings(2_000, 60)


def test_a_campaign_waits_for_its_start(world: World) -> None:
    operator = Operator.of_world(world)
    start = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    content = ("--from", "a <a@acme.test>", "--subject", "s", "--text", "-", "--start-at", start)
    text = b"hello {{ unsubscribe_url }}"
    operator.run("campaign", "create", operator.campaign, *content, stdin=text)
    world.produce(world.event(number, message=None) for number in range(50))
    with world.worker():
        wait_until(_parked(world, 50), 30, "all wait")
        for command in (["campaign", "show"], ["progress"]):
            assert operator.answer(*command, operator.campaign)["state"] == "paused"
        world.redis.hset(
            keys.campaign(world.organization, "spring"), "start_at", str(int(time.time()) + 2)
        )
        world.await_endings(50, 30)
    assert world.words() == {("sent", None): 50}
    world.judge()
