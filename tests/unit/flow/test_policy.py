"""What follows an answer: each branch."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.flow.failure_stats import MAX_PAUSE_S, AccountHealth, FailureStats, next_try_s
from streamer.flow.policy import (
    Blame,
    Defer,
    Failed,
    GiveUp,
    HoldAccount,
    PauseAccount,
    Policy,
    RetryAfter,
    Settle,
    Tries,
    UnexplainedRefusal,
)
from streamer.model.disposition import (
    Accepted,
    Conflicting,
    Disposition,
    RateLimited,
    Rejected,
    Retry,
    Suspended,
)
from streamer.model.reasons import Reason
from streamer.model.result import ItemResult

ASIDE_S, GIVE_UP_S = 20.0, 3_600.0
POLICY = Policy(82_800.0, ASIDE_S, GIVE_UP_S, has_other_accounts=True)
ALONE = replace(POLICY, has_other_accounts=False)

BROKEN = Retry("application_error", failing=True)
BUSY = Retry("concurrent_idempotent_requests")
UNKNOWN = Retry("http_422", failing=True, may_be_content=True)
UNREADABLE = Retry("unreadable", unreadable=True)
TAKEN = Accepted([ItemResult.sent("an-id")])
CONFLICT = Conflicting("Same key.")
REFUSED = Rejected("Invalid `to` field.")

WELL = AccountHealth(failures=1, successes=10, failing_s=0.0, others_failing=0)
OUTAGE = AccountHealth(failures=5, successes=10, failing_s=1.0, others_failing=1)
FRESH = FailureStats(lasting_s=0.0, age_s=0.0, others_accepted=0, others_failing=0)
FAILS_ALONE = FailureStats(lasting_s=ASIDE_S, age_s=ASIDE_S, others_accepted=3, others_failing=1)

healths = st.builds(
    AccountHealth, st.integers(0, 50), st.integers(0, 50), st.floats(0, 10), st.integers(0, 5)
)
troubles = st.builds(
    FailureStats, st.floats(0, 200), st.floats(0, 90_000), st.integers(0, 10), st.integers(0, 5)
)


def _after_failure(
    health: AccountHealth = WELL,
    stats: FailureStats = FRESH,
    policy: Policy = POLICY,
    disposition: Retry = BROKEN,
    failures: int = 1,
    blame: Blame = Blame.NEVER,
    alone_in_s: float | None = None,
    *,
    under_backpressure: bool = False,
) -> RetryAfter | HoldAccount | Defer | GiveUp | UnexplainedRefusal:
    tries = _tries(*[disposition] * failures, blame=blame, alone_in_s=alone_in_s)
    return policy.after_failure(
        disposition,
        tries,
        health,
        stats,
        lambda: 0.5,
        under_backpressure=under_backpressure,
    )


def _tries(*answers: Retry, blame: Blame, alone_in_s: float | None = None) -> Tries:
    tries = Tries(blame)
    for answer in answers:
        tries.count(answer, "It broke.", alone_in_s)
    return tries


# An answer


@pytest.mark.parametrize("definite", [TAKEN, CONFLICT, REFUSED])
def test_a_definite_response_settles_the_key(definite: Accepted | Conflicting | Rejected) -> None:
    assert POLICY.after_response(definite, "", Tries()) == Settle(definite)


@pytest.mark.parametrize("definite", [TAKEN, CONFLICT])
def test_an_acceptance_settles_whoever_sent_it(definite: Accepted | Conflicting) -> None:
    assert POLICY.after_response(definite, "", Tries(), alone_in_s=3.0) == Settle(definite)


@given(st.floats(0, 10))
def test_a_rejection_an_earlier_call_may_cross_is_retried(wait_s: float) -> None:
    assert POLICY.after_response(REFUSED, "", Tries(), alone_in_s=wait_s) == RetryAfter(wait_s)


@given(st.floats(0, 86_400))
def test_a_rate_limit_pauses_and_a_long_one_holds(after_s: float) -> None:
    step = POLICY.after_response(RateLimited(after_s), "Slow down.", Tries())
    if after_s > MAX_PAUSE_S:
        assert step == HoldAccount(Suspended("rate_limit_exceeded", "Slow down."), after_s)
    else:
        assert step == PauseAccount(max(after_s, 0.1))


@pytest.mark.parametrize("of_sender", [False, True])
def test_an_account_error_holds_the_account(of_sender: bool) -> None:
    cause = Suspended("daily_quota_exceeded", "Quota.", sender_only=of_sender)
    assert POLICY.after_response(cause, "", Tries()) == HoldAccount(cause)


@pytest.mark.parametrize("failure", [BROKEN, BUSY, UNREADABLE])
def test_steps_after_a_failure_depend_on_the_account(failure: Retry) -> None:
    tries = Tries()
    tries.count(failure)
    assert POLICY.after_response(failure, "", tries) == Failed(failure)


@given(st.lists(st.sampled_from([BROKEN, BUSY, RateLimited(0.0), UNREADABLE]), max_size=20))
def test_three_unreadable_responses_give_up(answers: list[Disposition]) -> None:
    tries, unreadable = Tries(), 0
    for answer in [*answers, UNREADABLE, UNREADABLE, UNREADABLE]:
        unreadable += answer == UNREADABLE
        tries.count(answer)
        step = POLICY.after_response(answer, "", tries)
        assert isinstance(step, GiveUp) == (unreadable == 3)
        if isinstance(step, GiveUp):
            assert step.reason is Reason.PROVIDER_ERROR
            return


# A failure


def test_an_outage_holds_an_account_among_others() -> None:
    held = HoldAccount(Suspended("outage", "application_error: It broke."))
    assert _after_failure(OUTAGE) == held
    assert _after_failure(OUTAGE, FAILS_ALONE) == held  # whatever is known of the batch
    assert _after_failure(OUTAGE, policy=ALONE) == RetryAfter(0.25)


@pytest.mark.parametrize(
    "health",
    [
        replace(OUTAGE, failures=4),
        replace(OUTAGE, others_failing=0),
        replace(OUTAGE, failing_s=0.9),
    ],
)
def test_a_possibly_isolated_failure_holds_no_account(health: AccountHealth) -> None:
    assert _after_failure(health) == RetryAfter(0.25)


def test_an_isolated_batch_is_deferred_then_given_up() -> None:
    assert _after_failure(stats=FAILS_ALONE) == Defer(ASIDE_S)
    old = replace(FAILS_ALONE, age_s=GIVE_UP_S)
    given_up = GiveUp(Reason.PROVIDER_ERROR, "application_error: It broke.")
    assert _after_failure(stats=old) == given_up


def test_backpressure_defers_an_isolated_batch_at_once() -> None:
    early = replace(FAILS_ALONE, lasting_s=0.1, age_s=0.1)
    assert _after_failure(stats=early) == RetryAfter(0.25)
    assert _after_failure(stats=early, under_backpressure=True) == Defer(ASIDE_S)


@given(st.integers(1, 100), st.floats(0, MAX_PAUSE_S))
def test_waits_grow_and_honour_retry_after(failures: int, after_s: float) -> None:
    asked = Retry("http_503", after_s, failing=True)
    step = _after_failure(disposition=asked, failures=failures)
    assert step == RetryAfter(after_s + 0.5 * min(5.0, 0.5 * 2.0 ** (failures - 1)))


@given(st.floats(MAX_PAUSE_S, 86_400, exclude_min=True), st.floats(0, 82_800))
def test_a_long_retry_after_defers_the_batch(after_s: float, age_s: float) -> None:
    asked = Retry("http_503", after_s, failing=True)
    step = _after_failure(stats=replace(FRESH, age_s=age_s), disposition=asked)
    assert isinstance(step, Defer)
    assert MAX_PAUSE_S <= step.wait_s <= after_s
    # It comes back while it may still be sent.
    assert step.wait_s == after_s or step.wait_s <= max(MAX_PAUSE_S, 82_800 - age_s - 600)


def test_outage_and_give_up_precede_a_long_wait() -> None:
    asked = Retry("http_503", 3600.0, failing=True)
    assert isinstance(_after_failure(OUTAGE, disposition=asked), HoldAccount)
    old = replace(FAILS_ALONE, age_s=GIVE_UP_S)
    assert isinstance(_after_failure(stats=old, disposition=asked), GiveUp)


# A refusal that nobody can explain


@pytest.mark.parametrize("pressed", [False, True])
@pytest.mark.parametrize("age_s", [ASIDE_S, GIVE_UP_S])
def test_an_unexplained_rejection_is_halved_when_due(age_s: float, pressed: bool) -> None:
    due = replace(FAILS_ALONE, age_s=age_s, lasting_s=0.1 if pressed else ASIDE_S)
    found = _after_failure(
        stats=due, disposition=UNKNOWN, blame=Blame.WHEN_DUE, under_backpressure=pressed
    )
    assert found == UnexplainedRefusal("It broke.")
    early = replace(due, lasting_s=0.1)
    assert _after_failure(stats=early, disposition=UNKNOWN, blame=Blame.WHEN_DUE) == RetryAfter(
        0.25
    )
    tries = _tries(UNKNOWN, blame=Blame.WHEN_DUE)
    assert POLICY.while_waiting(tries, due, under_backpressure=pressed) == found


def test_nothing_is_halved_in_an_outage() -> None:
    step = _after_failure(OUTAGE, FAILS_ALONE, disposition=UNKNOWN, blame=Blame.AT_ONCE)
    assert isinstance(step, HoldAccount)


@given(
    st.lists(st.sampled_from([UNKNOWN, BROKEN, BUSY, UNREADABLE]), min_size=1, max_size=5),
    st.sampled_from(list(Blame)),
    troubles,
)
def test_a_possibly_accepted_batch_keeps_its_key(
    answers: list[Retry], blame: Blame, stats: FailureStats
) -> None:
    tries = _tries(*answers, blame=blame)
    assert tries.only_refusals == (set(answers) == {UNKNOWN})
    if tries.is_blamed(stats, ASIDE_S, is_due=True):
        assert set(answers) == {UNKNOWN}
        assert blame is not Blame.NEVER


@pytest.mark.parametrize("blame", [Blame.WHEN_DUE, Blame.AT_ONCE, Blame.WHEN_SURE])
def test_a_rejection_an_earlier_call_may_cross_is_not_final(blame: Blame) -> None:
    step = _after_failure(
        stats=FAILS_ALONE, disposition=UNKNOWN, failures=5, blame=blame, alone_in_s=30.0
    )
    assert step == RetryAfter(30.0)
    tries = _tries(*[UNKNOWN] * 5, blame=blame, alone_in_s=30.0)
    assert POLICY.while_waiting(tries, FAILS_ALONE, under_backpressure=False) is None


@pytest.mark.parametrize(
    ("stats", "is_sure"),
    [
        (replace(FRESH, others_accepted=3), True),
        (replace(FRESH, others_accepted=3, others_failing=1), True),
        (replace(FRESH, others_accepted=2), False),
        (replace(FRESH, lasting_s=ASIDE_S), True),  # nobody to tell by
        (replace(FRESH, lasting_s=10 * ASIDE_S, others_failing=1), False),
    ],
)
def test_a_mail_is_blamed_if_only_it_keeps_being_rejected(
    stats: FailureStats, is_sure: bool
) -> None:
    for failures in (1, 2, 3):
        tries = _tries(*[UNKNOWN] * failures, blame=Blame.WHEN_SURE)
        blamed = tries.is_blamed(stats, ASIDE_S, is_due=True)
        assert blamed == (is_sure and failures == 3)


@given(healths, troubles, st.booleans(), st.booleans())
def test_each_failure_has_one_consequence(
    health: AccountHealth, stats: FailureStats, has_others: bool, under_backpressure: bool
) -> None:
    policy = replace(POLICY, has_other_accounts=has_others)
    step = _after_failure(health, stats, policy, under_backpressure=under_backpressure)
    match step:
        case HoldAccount():
            assert has_others
            assert health.others_failing
        case GiveUp():
            assert stats.is_isolated
            assert stats.age_s >= GIVE_UP_S
        case Defer(wait_s):
            assert stats.should_defer(ASIDE_S, under_backpressure)
            assert wait_s == next_try_s(stats.age_s, ASIDE_S, GIVE_UP_S)
        case UnexplainedRefusal():
            pytest.fail("it may have been accepted")
        case RetryAfter():
            assert not stats.should_give_up(ASIDE_S, GIVE_UP_S)
            assert not stats.should_defer(ASIDE_S, under_backpressure)


# While there is no slot


@given(st.none() | troubles, st.booleans())
def test_a_batch_waiting_for_a_slot_is_deferred_if_others_succeed(
    stats: FailureStats | None, under_backpressure: bool
) -> None:
    tries = _tries(BROKEN, blame=Blame.WHEN_DUE)
    step = POLICY.while_waiting(tries, stats, under_backpressure=under_backpressure)
    is_due = (
        stats is not None
        and stats.is_isolated
        and (under_backpressure or stats.lasting_s >= ASIDE_S)
        and not stats.should_give_up(ASIDE_S, GIVE_UP_S)  # its next failure does
    )
    assert isinstance(step, Defer) == is_due


# The tries of a key


def test_a_key_without_failures_is_not_failing() -> None:
    assert Tries().stats(age_s=1.0, now=1.0) is None


@given(st.lists(st.tuples(st.floats(0, 100), st.integers(0, 5)), min_size=1, max_size=10))
def test_failures_are_timed_from_the_first(steps: list[tuple[float, int]]) -> None:
    tries, now, successes = Tries(), 1_000.0, 7
    first_at, first_successes = now + steps[0][0], successes + steps[0][1]
    for step_s, taken in steps:
        now, successes = now + step_s, successes + taken
        tries.count(BROKEN)
        stats = tries.observe(replace(WELL, successes=successes), now, now)
        assert stats == FailureStats(now - first_at, now, successes - first_successes, 0)
        later = tries.stats(now + 1, now + 1)
        assert later == replace(stats, lasting_s=now + 1 - first_at, age_s=now + 1)
    assert tries.failures == len(steps)


@pytest.mark.parametrize("answer", [TAKEN, REFUSED, CONFLICT, RateLimited(1.0), Suspended("x", "")])
def test_only_retries_count_as_failures(answer: Disposition) -> None:
    tries = Tries()
    tries.count(answer)
    assert (tries.failures, tries.unreadable) == (0, 0)
