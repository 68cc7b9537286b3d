"""What workers rely on about an account's limit, its circuit and its holds: in memory and in
Redis."""

import secrets
from datetime import UTC, datetime, timedelta

import pytest

from streamer.flow.failure_stats import OUTAGE_FAILURES, AccountHealth, circuit_pause_s
from streamer.ledger.holds import AccountState, BatchRef, By, Hold, PlacedHold, ProbeTurn
from streamer.ledger.limiter import Held, SendPermit, Slot, SlotUnavailable, Successes
from tests.contracts.account_ledgers import (
    AccountsInMemory,
    AccountsInRedis,
    AccountsUnderTest,
)

FAST = 1000.0
SLACK_S = 0.5
"""How long a busy machine may take between two commands to Redis."""
REFS = [BatchRef("acme", f"{number}" * 24) for number in range(4)]


@pytest.fixture(params=["fake", "real"])
def accounts(request: pytest.FixtureRequest) -> AccountsUnderTest:
    if request.param == "fake":
        return AccountsInMemory()
    return AccountsInRedis(request.getfixturevalue("redis"))


def take(
    accounts: AccountsUnderTest, rate: float = FAST, domain: str = "acme.test"
) -> Slot | SlotUnavailable | Held:
    return accounts.limiter.take(accounts.account, rate, domain)


def take_slot(accounts: AccountsUnderTest, rate: float = FAST) -> Slot:
    slot = take(accounts, rate)
    assert isinstance(slot, Slot)
    return slot


def fail(accounts: AccountsUnderTest, batch: str = "b", call: str = "") -> AccountHealth:
    return accounts.limiter.record_failure(accounts.account, batch, call or secrets.token_hex(8))


def succeed(accounts: AccountsUnderTest, *, after_failures: bool = True) -> None:
    """One call of some worker succeeds, its first."""
    told = Successes(secrets.token_hex(8), 0, 1)
    accounts.limiter.record_success(accounts.account, told, after_failures=after_failures)


# Slots


def test_slots_are_evenly_spaced(accounts: AccountsUnderTest) -> None:
    waits = [take_slot(accounts, 10.0).wait_s for _ in range(9)]
    assert waits[0] == 0
    # A little slower than the limit; each wait is shorter by what the takes before it took.
    assert all(wait <= 0.1016 * number for number, wait in enumerate(waits))
    assert waits[-1] > 0.1016 * 8 - SLACK_S


def test_no_slot_further_ahead_than_a_second_is_given(accounts: AccountsUnderTest) -> None:
    for _ in range(11):
        if not isinstance(later := take(accounts, 5.0), Slot):
            break
    assert isinstance(later, SlotUnavailable)
    assert 1 < later.wait_s < 1.3
    accounts.advance(2.0)
    assert take_slot(accounts, 5.0).wait_s == 0


def test_a_pause_delays_the_next_slot_and_is_never_shortened(
    accounts: AccountsUnderTest,
) -> None:
    accounts.limiter.pause(accounts.account, 30.0)
    accounts.limiter.pause(accounts.account, 1.0)
    later = take(accounts)
    assert isinstance(later, SlotUnavailable)
    assert 30 - SLACK_S < later.wait_s <= 30
    accounts.advance(29.5 + SLACK_S)
    assert take_slot(accounts).wait_s <= 0.5


def test_accounts_have_slots_of_their_own(accounts: AccountsUnderTest) -> None:
    accounts.limiter.pause(accounts.account, 30.0)
    accounts.account += "-2"
    assert isinstance(take(accounts), Slot)


# Permits


def test_no_more_calls_leave_in_any_second_than_the_limit_allows(
    accounts: AccountsUnderTest,
) -> None:
    def wait_s() -> float:
        permit = accounts.limiter.acquire_permit(accounts.account, 10.0)
        assert permit is not None
        return permit.wait_s

    assert [wait_s() for _ in range(10)] == [0] * 10
    assert all(1 - SLACK_S < wait_s() <= 10 / 9.9 for _ in range(20))
    accounts.advance(10)
    assert wait_s() == 0


def test_a_call_that_leaves_late_delays_those_after_it(accounts: AccountsUnderTest) -> None:
    limiter = accounts.limiter
    late = limiter.acquire_permit(accounts.account, 1.0)
    assert late is not None
    limiter.adjust_permit(accounts.account, late, 30.0)
    limiter.adjust_permit(accounts.account, SendPermit("forgotten", 0.0), 60.0)
    permit = limiter.acquire_permit(accounts.account, 1.0)
    # A whole period from now, the most there is: it would be less by a round trip otherwise.
    assert permit is not None
    assert permit.wait_s == round(1e6 / 0.99) / 1e6


def test_at_a_high_rate_calls_leave_at_once(accounts: AccountsUnderTest) -> None:
    assert accounts.limiter.acquire_permit(accounts.account, 100.1) is None
    assert accounts.limiter.acquire_permit(accounts.account, 100.0) is not None


# The circuit


def test_after_some_failures_calls_are_further_and_further_apart(
    accounts: AccountsUnderTest,
) -> None:
    for failures in range(1, 20):
        assert fail(accounts).failures == failures
        pause_s = circuit_pause_s(failures)
        if pause_s:
            later = take(accounts)
            assert isinstance(later, SlotUnavailable)
            assert pause_s - SLACK_S < later.wait_s <= pause_s
        else:
            assert take_slot(accounts).failures == failures


def test_an_open_circuit_gives_one_slot_a_pause(accounts: AccountsUnderTest) -> None:
    for _ in range(OUTAGE_FAILURES + 10):
        fail(accounts)
    for _ in range(2):
        accounts.advance(5.0)
        assert take_slot(accounts).failures == OUTAGE_FAILURES + 10
        assert isinstance(take(accounts), SlotUnavailable)


def test_a_success_closes_the_circuit_at_once(accounts: AccountsUnderTest) -> None:
    for _ in range(OUTAGE_FAILURES):
        fail(accounts)
    succeed(accounts)
    slot = take_slot(accounts)
    assert (slot.failures, slot.successes) == (0, 1)
    assert accounts.limiter.successes(accounts.account) == 1
    assert fail(accounts) == AccountHealth(1, 1, 0.0, 0)


def test_a_call_that_began_before_the_failures_does_not_close_it(
    accounts: AccountsUnderTest,
) -> None:
    for _ in range(OUTAGE_FAILURES):
        fail(accounts)
    succeed(accounts, after_failures=False)
    assert isinstance(take(accounts), SlotUnavailable)
    assert fail(accounts).successes == 1


def test_health_says_since_when_and_how_many_fail(accounts: AccountsUnderTest) -> None:
    assert fail(accounts, "b1") == AccountHealth(1, 0, 0.0, 0)
    accounts.advance(60)
    health = fail(accounts, "b2")
    assert (health.failures, health.others_failing) == (2, 1)
    assert 60 <= health.failing_s < 60 + SLACK_S
    succeed(accounts)
    assert fail(accounts, "b2").failing_s == 0


def test_a_failure_reported_twice_counts_once(accounts: AccountsUnderTest) -> None:
    for _ in range(2):
        health = fail(accounts, "b1", "call 1")
        assert (health.failures, health.others_failing) == (1, 0)
    for _ in range(2):
        health = fail(accounts, "b2", "call 1")
        assert (health.failures, health.others_failing) == (2, 1)
    assert fail(accounts, "b1", "call 2").failures == 3


def test_successes_reported_twice_count_once(accounts: AccountsUnderTest) -> None:
    # Reports of one worker's threads, which may cross; and another worker's.
    for worker, told, total, counted in [
        ("w1", 0, 3, 3),
        ("w1", 0, 3, 3),
        ("w1", 0, 7, 7),
        ("w1", 3, 5, 7),
        ("w1", 7, 7, 7),
        ("w2", 0, 2, 9),
        ("w3", 5, 6, 10),  # Redis has forgotten the first five, but counted them
    ]:
        accounts.limiter.record_success(
            accounts.account, Successes(worker, told, total), after_failures=False
        )
        assert accounts.limiter.successes(accounts.account) == counted


def test_the_advertised_limit_is_known_to_all(accounts: AccountsUnderTest) -> None:
    name = accounts.account
    assert accounts.holds.read([name, "other"])[name] == AccountState({}, None, 0)
    accounts.limiter.set_advertised_limit(name, 10)
    accounts.limiter.set_advertised_limit(name, 2)
    fail(accounts)
    assert accounts.holds.read([name])[name] == AccountState({}, 2, 1)
    succeed(accounts)  # it closes the circuit, and leaves the limit
    assert accounts.holds.read([name])[name] == AccountState({}, 2, 0)


def test_responses_are_noted_by_name(accounts: AccountsUnderTest) -> None:
    for message in ("It broke.", "Again."):
        accounts.limiter.note(accounts.account, "application_error", message)
    accounts.limiter.note(accounts.account, "http_502", "A page.")
    assert accounts.notes() == {"application_error": "Again.", "http_502": "A page."}


# Holds


def make_hold(by: By = By.ANSWER, reason: str = "a test") -> Hold:
    return Hold(by=by, reason=reason, detail="", since=datetime.now(UTC))


def put(
    accounts: AccountsUnderTest,
    hold: Hold,
    *,
    domain: str | None = None,
    probe_s: float = 0,
    batch: BatchRef | None = None,
    sender: str = "",
) -> PlacedHold:
    return accounts.holds.put(accounts.account, domain, hold, probe_s, batch, sender)


def held(accounts: AccountsUnderTest) -> dict[str | None, Hold]:
    return accounts.holds.read([accounts.account])[accounts.account].holds


@pytest.mark.parametrize("by", list(By))
def test_a_held_account_gets_no_slot(accounts: AccountsUnderTest, by: By) -> None:
    put(accounts, make_hold(by))
    assert take(accounts) == Held(None)
    despite = accounts.limiter.take(accounts.account, FAST, "acme.test", ignore_hold=True)
    assert isinstance(despite, Slot)
    accounts.holds.release(accounts.account, None, By.OPERATOR)
    assert isinstance(take(accounts), Slot)


def test_a_held_domain_gets_no_slot(accounts: AccountsUnderTest) -> None:
    put(accounts, make_hold(), domain="new.test")
    assert take(accounts, domain="new.test") == Held("new.test")
    assert isinstance(take(accounts), Slot)


def test_a_refused_slot_is_not_used_up(accounts: AccountsUnderTest) -> None:
    put(accounts, make_hold())
    for _ in range(50):
        take(accounts, 1.0)
    accounts.holds.release(accounts.account, None, By.ANSWER)
    assert take_slot(accounts, 1.0).wait_s == 0


def test_only_an_operator_releases_an_operators_hold(accounts: AccountsUnderTest) -> None:
    hold = make_hold(By.OPERATOR)
    put(accounts, hold)
    assert put(accounts, make_hold(), batch=REFS[0]) == PlacedHold(None, False)
    assert accounts.holds.due(accounts.account, None, 0) is None
    assert accounts.holds.release(accounts.account, None, By.ANSWER) is False
    assert held(accounts) == {None: hold}
    assert accounts.holds.release(accounts.account, None, By.OPERATOR) is True
    assert held(accounts) == {}
    assert accounts.holds.release(accounts.account, None, By.OPERATOR) is False


def test_an_operators_hold_replaces_any_other(accounts: AccountsUnderTest) -> None:
    put(accounts, make_hold())
    assert put(accounts, hold := make_hold(By.OPERATOR)) == PlacedHold(None, True)
    assert held(accounts) == {None: hold}


def test_a_hold_put_again_for_the_same_reason_stays(accounts: AccountsUnderTest) -> None:
    first = make_hold()
    assert put(accounts, first) == PlacedHold(None, True)
    assert put(accounts, first) == PlacedHold(None, True)  # as after a lost reply
    later = first.model_copy(update={"since": first.since + timedelta(seconds=1)})
    assert put(accounts, later) == PlacedHold(None, False)
    assert held(accounts) == {None: first}


def test_a_hold_for_another_reason_replaces_it(accounts: AccountsUnderTest) -> None:
    first = make_hold()
    second = make_hold(reason="another").model_copy(
        update={"since": first.since + timedelta(seconds=1)}
    )
    put(accounts, first)
    assert put(accounts, second) == PlacedHold(None, True)
    assert held(accounts) == {None: second}
    # Whoever tested the first does not release the second.
    assert not accounts.holds.release(accounts.account, None, By.ANSWER, first)
    assert accounts.holds.release(accounts.account, None, By.ANSWER, second)


def test_a_hold_is_tested_at_intervals_with_each_batch_in_turn(
    accounts: AccountsUnderTest,
) -> None:
    name, hold = accounts.account, make_hold()
    for batch in (REFS[0], REFS[1], REFS[0]):  # the last one put comes last
        put(accounts, hold, probe_s=60, batch=batch, sender="acme.test")
    for batch in (REFS[1], REFS[0], REFS[1]):
        assert accounts.holds.due(name, None, 60) is None
        accounts.advance(61)
        assert accounts.holds.due(name, None, 60) == ProbeTurn(batch)
    put(accounts, make_hold(), batch=REFS[0], sender="acme.test")
    assert accounts.holds.due(name, None, 60) is None  # another response does not hasten it
    assert accounts.holds.tests(name, None).batches == [REFS[1], REFS[0]]
    accounts.holds.forget(name, None, REFS[1])
    assert accounts.holds.next_batch(name, None) == REFS[0]
    accounts.holds.forget(name, None, REFS[0])
    assert accounts.holds.next_batch(name, None) is None
    accounts.advance(61)
    assert accounts.holds.due(name, None, 60) == ProbeTurn(None)


def test_a_hold_without_a_test_time_is_due(accounts: AccountsUnderTest) -> None:
    assert accounts.holds.due(accounts.account, None, 60) is None  # there is no hold
    put(accounts, make_hold(), probe_s=3600)
    # The next test is further away than the interval: somebody's clock was wrong.
    assert accounts.holds.due(accounts.account, None, 60) == ProbeTurn(None)


def test_what_is_drawn_again_after_a_release_holds_the_domain_alone(
    accounts: AccountsUnderTest,
) -> None:
    name = accounts.account
    put(accounts, make_hold(), batch=REFS[0], sender="bad.test")
    assert accounts.holds.release(name, None, By.OPERATOR)
    assert put(accounts, make_hold(), batch=REFS[1], sender="bad.test").domain == "bad.test"
    assert accounts.holds.tests(name, "bad.test").batches == [REFS[1]]
    # Another domain draws it too: so it is the account.
    assert put(accounts, make_hold(), batch=REFS[2], sender="good.test").domain is None
    assert put(accounts, make_hold(), batch=REFS[0], sender="bad.test").domain is None
    assert set(held(accounts)) == {None, "bad.test"}
