"""A worker's cached view of holds and limits."""

from datetime import UTC, datetime, timedelta

import pytest

from streamer import metrics
from streamer.ledger.holds import BatchRef, By, Hold
from streamer.model.disposition import Suspended
from streamer.model.parking import Scope
from streamer.worker.account_states import AccountStateCache, as_hold
from tests.kit.fakes.sending import ACCOUNT, DOMAIN, SendingWorker, Services

REF, OTHER = BatchRef("acme", "a" * 24), BatchRef("acme", "b" * 24)
NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def states(worker: SendingWorker) -> AccountStateCache:
    return worker.account_states


def make_hold(services: Services, reason: str = "quota", until: datetime | None = None) -> Hold:
    return as_hold(Suspended(reason, "Its words."), REF, services.clock.utc(), 429, until)


# A hold from a response


def test_a_hold_says_what_drew_it() -> None:
    hold = as_hold(Suspended("invalid_api_key", "Its words."), REF, NOON, 403)
    assert (hold.by, hold.reason, hold.detail) == (By.ANSWER, "invalid_api_key", "Its words.")
    assert (hold.since, hold.until) == (NOON, None)
    assert hold.drawn_by is not None
    assert (hold.drawn_by.organization_id, hold.drawn_by.batch_id) == REF
    assert hold.drawn_by.status == 403


def test_of_the_daily_quota_the_end_is_known() -> None:
    hold = as_hold(Suspended("daily_quota_exceeded", ""), REF, NOON)
    assert hold.until == datetime(2030, 1, 2, tzinfo=UTC)
    told = as_hold(Suspended("daily_quota_exceeded", ""), REF, NOON, until=NOON)
    assert told.until == NOON


# What mails wait for


def test_a_hold_is_known_at_once_where_it_was_put(
    services: Services, states: AccountStateCache
) -> None:
    scope = states.put(ACCOUNT, DOMAIN, make_hold(services), REF, sender_only=False)
    assert scope == states.scope_of(ACCOUNT, DOMAIN) == Scope.of_hold(ACCOUNT, None)
    assert states.scope_of(ACCOUNT, "other.test") == scope
    assert states.scope_of("other", DOMAIN) is None
    assert not states.holds_sender(ACCOUNT, DOMAIN)


def test_a_hold_of_a_domain_concerns_it_alone(
    services: Services, states: AccountStateCache
) -> None:
    scope = states.put(ACCOUNT, DOMAIN, make_hold(services), REF, sender_only=True)
    assert scope == states.scope_of(ACCOUNT, DOMAIN) == Scope.of_hold(ACCOUNT, DOMAIN)
    assert states.scope_of(ACCOUNT, "other.test") is None
    assert states.holds_sender(ACCOUNT, DOMAIN)


def test_a_hold_of_a_doubted_domain_holds_that_alone(
    services: Services, states: AccountStateCache
) -> None:
    states.put(ACCOUNT, DOMAIN, make_hold(services), REF, sender_only=False)
    services.holds.release(ACCOUNT, None, By.OPERATOR)
    states.refresh()
    scope = states.put(ACCOUNT, DOMAIN, make_hold(services), REF, sender_only=False)
    assert scope == Scope.of_hold(ACCOUNT, DOMAIN)
    assert states.scope_of(ACCOUNT, "other.test") is None


def test_what_others_do_is_known_after_a_refresh(
    services: Services, states: AccountStateCache
) -> None:
    hold = services.hold()
    services.limiter.set_advertised_limit(ACCOUNT, 3)
    assert (states.scope_of(ACCOUNT, DOMAIN), states.limit(ACCOUNT)) == (None, None)
    states.refresh()
    assert (states.scope_of(ACCOUNT, DOMAIN), states.limit(ACCOUNT)) == (
        Scope.of_hold(ACCOUNT, None),
        3,
    )
    services.holds.release(ACCOUNT, None, By.OPERATOR, hold)
    states.refresh()
    assert states.scope_of(ACCOUNT, DOMAIN) is None


def test_an_account_that_left_the_settings_is_followed_once_it_is_used(
    services: Services, states: AccountStateCache
) -> None:
    services.hold("gone")
    states.refresh()
    assert states.scope_of("gone", DOMAIN) is None
    states.refresh()
    assert states.scope_of("gone", DOMAIN) == Scope.of_hold("gone", None)


def test_holds_are_shown_as_metrics(services: Services, states: AccountStateCache) -> None:
    shown = metrics.ACCOUNT_HELD.labels(ACCOUNT, "operator")
    services.hold()
    states.refresh()
    assert shown._value.get() == 1
    services.holds.release(ACCOUNT, None, By.OPERATOR)
    states.refresh()
    assert shown._value.get() == 0


# The limit


def test_a_limit_is_published_when_it_changes(
    services: Services, states: AccountStateCache
) -> None:
    for limit in (5, 5, 5, 4):
        states.learn_limit(ACCOUNT, limit)
    assert services.accounts.faults.made.count("set_advertised_limit") == 2
    assert services.holds.read([ACCOUNT])[ACCOUNT].limit == states.limit(ACCOUNT) == 4
    states.refresh()
    assert metrics.ALLOWED_CALLS.labels(ACCOUNT)._value.get() == 4


# Tests of holds


def due(states: AccountStateCache) -> list[tuple[str | None, BatchRef | None]]:
    return [(domain, batch) for _, domain, _, batch in states.due()]


def test_a_hold_is_tested_at_intervals(services: Services, states: AccountStateCache) -> None:
    states.put(ACCOUNT, DOMAIN, make_hold(services), REF, sender_only=False)
    for _ in range(2):
        services.clock.advance(29.0)
        assert due(states) == []
        services.clock.advance(1.0)
        assert due(states) == [(None, REF)]
        assert due(states) == []


def test_an_outage_is_tested_more_often(services: Services, states: AccountStateCache) -> None:
    states.put(ACCOUNT, DOMAIN, make_hold(services, "outage"), REF, sender_only=False)
    services.clock.advance(5.0)
    assert due(states) == [(None, REF)]
    services.clock.advance(5.0)
    assert due(states) == [(None, REF)]


def test_a_hold_is_first_tested_when_it_is_to_end(
    services: Services, states: AccountStateCache
) -> None:
    until = services.clock.utc() + timedelta(seconds=7)
    states.put(ACCOUNT, DOMAIN, make_hold(services, until=until), REF, sender_only=False)
    services.clock.advance(6.9)
    assert due(states) == []
    services.clock.advance(0.1)
    assert due(states) == [(None, REF)]


def test_an_operators_hold_is_not_tested(services: Services, states: AccountStateCache) -> None:
    services.hold()
    states.refresh()
    services.clock.advance(3600.0)
    assert due(states) == []


def test_a_batch_that_cannot_test_a_hold_makes_way_for_the_next(
    services: Services, states: AccountStateCache
) -> None:
    for ref in (REF, OTHER):
        states.put(ACCOUNT, DOMAIN, make_hold(services), ref, sender_only=False)
    assert states.next_batch(ACCOUNT, None, instead_of=REF) == OTHER
    states.forget(ACCOUNT, None, OTHER)
    assert states.next_batch(ACCOUNT, None, instead_of=REF) is None


def test_a_hold_that_is_over_is_released(services: Services, states: AccountStateCache) -> None:
    hold = make_hold(services)
    states.put(ACCOUNT, DOMAIN, hold, REF, sender_only=False)
    states.put(ACCOUNT, DOMAIN, make_hold(services), OTHER, sender_only=True)
    states.end_hold(ACCOUNT, None, hold)
    assert states.scope_of(ACCOUNT, "other.test") is None
    assert states.scope_of(ACCOUNT, DOMAIN) == Scope.of_hold(ACCOUNT, DOMAIN)
    assert set(services.holds.read([ACCOUNT])[ACCOUNT].holds) == {DOMAIN}


def test_a_hold_that_was_replaced_is_not_released(
    services: Services, states: AccountStateCache
) -> None:
    tested = make_hold(services)
    states.put(ACCOUNT, DOMAIN, tested, REF, sender_only=False)
    services.clock.advance(1.0)
    states.put(ACCOUNT, DOMAIN, make_hold(services, "key"), REF, sender_only=False)
    states.end_hold(ACCOUNT, None, tested)
    assert states.scope_of(ACCOUNT, DOMAIN) is not None
    assert services.holds.read([ACCOUNT])[ACCOUNT].holds[None].reason == "key"
