"""A worker's access to the accounts' shared limits and circuits."""

import pytest

from streamer.flow.failure_stats import OUTAGE_FAILURES, AccountHealth
from streamer.ledger.limiter import Held, Slot, SlotUnavailable
from streamer.worker.waiter import StoppedError
from tests.kit.fakes.sending import ACCOUNT, DOMAIN, SendingWorker, Services


def ask(
    services: Services, worker: SendingWorker, account: str = ACCOUNT
) -> Slot | SlotUnavailable | Held:
    return worker.slots.ask(account, DOMAIN, services.clock.monotonic())


# Slots


def test_a_slot_is_waited_for(services: Services, worker: SendingWorker) -> None:
    for _ in range(10):
        assert isinstance(worker.slots.take(ACCOUNT, DOMAIN), Slot)
    assert services.clock.monotonic() == pytest.approx(9 / (10 * 0.985), abs=0.001)


def test_two_workers_share_the_limit(services: Services, worker: SendingWorker) -> None:
    for each in [worker, SendingWorker(services)] * 5:
        each.slots.take(ACCOUNT, DOMAIN)
    assert services.clock.monotonic() == pytest.approx(9 / (10 * 0.985), abs=0.001)


def test_the_advertised_limit_lowers_the_rate(services: Services, worker: SendingWorker) -> None:
    worker.account_states.learn_limit(ACCOUNT, 2)
    for _ in range(3):
        worker.slots.take(ACCOUNT, DOMAIN)
    assert services.clock.monotonic() == pytest.approx(2 / (2 * 0.985), abs=0.001)


def test_without_a_slot_the_caller_learns_when_to_ask_again(
    services: Services, worker: SendingWorker
) -> None:
    services.limiter.pause(ACCOUNT, 20.0)
    assert ask(services, worker) == SlotUnavailable(1.0)  # it may be over before, or held
    services.clock.advance(0.4)
    # Whoever asks meanwhile does not ask Redis.
    later = ask(services, worker)
    assert isinstance(later, SlotUnavailable)
    assert later.wait_s == pytest.approx(0.6)
    assert services.accounts.faults.made.count("take") == 1
    assert isinstance(ask(services, worker, "other"), Slot)
    services.clock.advance(0.6)
    assert ask(services, worker) == SlotUnavailable(1.0)
    assert services.accounts.faults.made.count("take") == 3


def test_a_short_pause_is_asked_about_when_it_is_over(
    services: Services, worker: SendingWorker
) -> None:
    for _ in range(OUTAGE_FAILURES):
        services.another_fails()
    assert ask(services, worker) == SlotUnavailable(0.5)


@pytest.mark.parametrize("domain", [None, DOMAIN])
def test_a_held_account_or_domain_has_no_slot(
    services: Services, worker: SendingWorker, domain: str | None
) -> None:
    services.hold(domain=domain)
    assert ask(services, worker) == Held(domain)
    assert worker.slots.take(ACCOUNT, DOMAIN) == Held(domain)
    assert isinstance(worker.slots.take(ACCOUNT, DOMAIN, ignore_hold=True), Slot)


def test_a_hold_ends_the_wait_for_a_slot(services: Services, worker: SendingWorker) -> None:
    services.limiter.pause(ACCOUNT, 20.0)
    services.clock.after(5.0, services.hold)
    assert worker.slots.take(ACCOUNT, DOMAIN) == Held(None)
    assert services.clock.monotonic() == pytest.approx(5.0, abs=1.0)


def test_a_stop_ends_the_wait_for_a_slot(services: Services, worker: SendingWorker) -> None:
    services.limiter.pause(ACCOUNT, 20.0)
    services.clock.after(5.0, worker.waiter.stop)
    with pytest.raises(StoppedError):
        worker.slots.take(ACCOUNT, DOMAIN)
    assert services.clock.monotonic() == pytest.approx(5.0, abs=0.001)


def test_an_account_that_left_the_settings_has_the_unknown_rate(
    services: Services, worker: SendingWorker
) -> None:
    for _ in range(3):
        assert isinstance(worker.slots.take("gone", DOMAIN), Slot)
    assert services.clock.monotonic() == pytest.approx(2 / (2 * 0.985), abs=0.001)


# Results of calls


def test_each_call_counts_once_whatever_replies_are_lost(
    services: Services, worker: SendingWorker
) -> None:
    faults, slots = services.accounts.faults, worker.slots
    faults.lose_reply("record_failure", 2)
    assert slots.record_failure(ACCOUNT, "b", counts=True).failures == 1
    assert slots.record_failure(ACCOUNT, "b", counts=True).failures == 2
    faults.lose_reply("record_success", 2)
    slots.record_success(ACCOUNT, after_failures=True)
    assert services.limiter.successes(ACCOUNT) == 1
    slots.record_success(ACCOUNT, after_failures=False)
    for _ in range(2):
        slots.tell()
    assert services.limiter.successes(ACCOUNT) == 2


def test_a_success_after_failures_is_told_at_once(
    services: Services, worker: SendingWorker
) -> None:
    for _ in range(OUTAGE_FAILURES):
        services.another_fails()
    worker.slots.record_success(ACCOUNT, after_failures=False)
    assert services.limiter.successes(ACCOUNT) == 0
    worker.slots.record_success(ACCOUNT, after_failures=True)
    assert services.limiter.successes(ACCOUNT) == 2
    assert services.holds.read([ACCOUNT])[ACCOUNT].failures == 0


def test_successes_are_told_together(services: Services, worker: SendingWorker) -> None:
    for account in (ACCOUNT, ACCOUNT, "other"):
        worker.slots.record_success(account, after_failures=False)
    worker.slots.tell()
    assert [services.limiter.successes(each) for each in (ACCOUNT, "other")] == [2, 1]
    worker.slots.tell()  # there is nothing new
    assert services.accounts.faults.made.count("record_success") == 2


def test_successes_that_are_old_are_not_told_as_if_they_were_new(
    services: Services, worker: SendingWorker
) -> None:
    """They would make a batch that fails now look as if it failed alone."""
    worker.slots.record_success(ACCOUNT, after_failures=False)
    services.clock.advance(5.1)
    worker.slots.tell()
    assert services.limiter.successes(ACCOUNT) == 0
    worker.slots.record_success(ACCOUNT, after_failures=False)
    services.clock.advance(4.9)
    worker.slots.tell()
    assert services.limiter.successes(ACCOUNT) == 1


def test_a_failure_that_does_not_count_changes_nothing(
    services: Services, worker: SendingWorker
) -> None:
    services.others_succeed(calls=7)
    health = worker.slots.record_failure(ACCOUNT, "b", counts=False)
    assert health == AccountHealth(0, 7, 0.0, 0)
    assert services.holds.read([ACCOUNT])[ACCOUNT].failures == 0


def test_a_pause_is_asked_for_until_redis_has_it(services: Services, worker: SendingWorker) -> None:
    services.accounts.faults.refuse("pause", 2)
    worker.slots.pause(ACCOUNT, 20.0)
    assert isinstance(ask(services, worker), SlotUnavailable)


@pytest.mark.parametrize(("late_s", "is_told"), [(0.003, False), (0.0031, True)])
def test_only_a_call_that_is_late_is_reported(
    services: Services, worker: SendingWorker, late_s: float, is_told: bool
) -> None:
    permit = worker.slots.acquire_permit(ACCOUNT)
    assert permit is not None
    worker.slots.adjust_permit(ACCOUNT, permit, late_s)
    assert ("adjust_permit" in services.accounts.faults.made) == is_told
