"""What follows an answer: each branch."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.flow.policy import (
    Defer,
    Failed,
    GiveUp,
    HoldAccount,
    PauseAccount,
    Policy,
    RetryAfter,
    Settle,
    Tries,
)
from streamer.flow.verdicts import LONGEST_PAUSE_S, Health, Trouble, next_try_s
from streamer.model.disposition import (
    Again,
    Conflicting,
    OnHold,
    Refused,
    Taken,
    Throttled,
    Verdict,
)
from streamer.model.reasons import Reason
from streamer.model.result import ItemResult

ASIDE_S, GIVE_UP_S = 20.0, 3_600.0
POLICY = Policy(82_800.0, ASIDE_S, GIVE_UP_S, has_other_accounts=True)
ALONE = replace(POLICY, has_other_accounts=False)

BROKEN = Again("application_error", failing=True)
BUSY = Again("concurrent_idempotent_requests")
UNREADABLE = Again("unreadable", unreadable=True)
TAKEN = Taken([ItemResult.sent("an-id")])
CONFLICT = Conflicting("Same key.")
REFUSED = Refused("Invalid `to` field.")

WELL = Health(failures=1, successes=10, failing_s=0.0, others_failing=0)
OUTAGE = Health(failures=5, successes=10, failing_s=1.0, others_failing=1)
FRESH = Trouble(lasting_s=0.0, age_s=0.0, others_taken=0, others_failing=0)
FAILS_ALONE = Trouble(lasting_s=ASIDE_S, age_s=ASIDE_S, others_taken=3, others_failing=1)

healths = st.builds(
    Health, st.integers(0, 50), st.integers(0, 50), st.floats(0, 10), st.integers(0, 5)
)
troubles = st.builds(
    Trouble, st.floats(0, 200), st.floats(0, 90_000), st.integers(0, 10), st.integers(0, 5)
)


def _after_failure(
    health: Health = WELL,
    trouble: Trouble = FRESH,
    policy: Policy = POLICY,
    disposition: Again = BROKEN,
    failures: int = 1,
    *,
    under_backpressure: bool = False,
) -> RetryAfter | HoldAccount | Defer | GiveUp:
    return policy.after_failure(
        disposition,
        "It broke.",
        failures,
        health,
        trouble,
        lambda: 0.5,
        under_backpressure=under_backpressure,
    )


# An answer


@pytest.mark.parametrize("definite", [TAKEN, CONFLICT, REFUSED])
def test_a_definite_answer_settles_the_key(definite: Taken | Conflicting | Refused) -> None:
    assert POLICY.after_answer(definite, "", Tries()) == Settle(definite)


@pytest.mark.parametrize("definite", [TAKEN, CONFLICT])
def test_what_resend_has_is_settled_whoever_sent_it(definite: Taken | Conflicting) -> None:
    assert POLICY.after_answer(definite, "", Tries(), alone_in_s=3.0) == Settle(definite)


@given(st.floats(0, 10))
def test_a_refusal_that_an_earlier_owner_s_call_may_cross_is_asked_for_again(wait_s: float) -> None:
    assert POLICY.after_answer(REFUSED, "", Tries(), alone_in_s=wait_s) == RetryAfter(wait_s)


@given(st.floats(0, 86_400))
def test_a_throttled_account_pauses_and_for_long_it_is_held(after_s: float) -> None:
    step = POLICY.after_answer(Throttled(after_s), "Slow down.", Tries())
    if after_s > LONGEST_PAUSE_S:
        assert step == HoldAccount(OnHold("rate_limit_exceeded", "Slow down."), after_s)
    else:
        assert step == PauseAccount(max(after_s, 0.1))


@pytest.mark.parametrize("of_sender", [False, True])
def test_an_account_s_trouble_holds_it(of_sender: bool) -> None:
    cause = OnHold("daily_quota_exceeded", "Quota.", of_sender=of_sender)
    assert POLICY.after_answer(cause, "", Tries()) == HoldAccount(cause)


@pytest.mark.parametrize("failure", [BROKEN, BUSY, UNREADABLE])
def test_what_follows_a_failure_depends_on_the_account(failure: Again) -> None:
    tries = Tries()
    tries.count(failure)
    assert POLICY.after_answer(failure, "", tries) == Failed(failure)


@given(st.lists(st.sampled_from([BROKEN, BUSY, Throttled(0.0), UNREADABLE]), max_size=20))
def test_what_cannot_be_understood_three_times_is_given_up(answers: list[Verdict]) -> None:
    tries, unreadable = Tries(), 0
    for answer in [*answers, UNREADABLE, UNREADABLE, UNREADABLE]:
        unreadable += answer == UNREADABLE
        tries.count(answer)
        step = POLICY.after_answer(answer, "", tries)
        assert isinstance(step, GiveUp) == (unreadable == 3)
        if isinstance(step, GiveUp):
            assert step.reason is Reason.PROVIDER_ERROR
            return


# A failure


def test_in_an_outage_an_account_beside_others_is_held() -> None:
    held = HoldAccount(OnHold("outage", "application_error: It broke."))
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
def test_what_may_be_one_batch_s_trouble_holds_no_account(health: Health) -> None:
    assert _after_failure(health) == RetryAfter(0.25)


def test_a_batch_that_fails_alone_is_deferred_and_in_the_end_given_up() -> None:
    assert _after_failure(trouble=FAILS_ALONE) == Defer(ASIDE_S)
    old = replace(FAILS_ALONE, age_s=GIVE_UP_S)
    given_up = GiveUp(Reason.PROVIDER_ERROR, "application_error: It broke.")
    assert _after_failure(trouble=old) == given_up


def test_under_backpressure_it_is_deferred_at_its_first_failure_that_shows_it() -> None:
    early = replace(FAILS_ALONE, lasting_s=0.1, age_s=0.1)
    assert _after_failure(trouble=early) == RetryAfter(0.25)
    assert _after_failure(trouble=early, under_backpressure=True) == Defer(ASIDE_S)


@given(st.integers(1, 100), st.floats(0, 60))
def test_the_wait_for_the_next_call_grows_and_is_what_was_asked_for_at_least(
    failures: int, after_s: float
) -> None:
    asked = Again("http_503", after_s, failing=True)
    step = _after_failure(disposition=asked, failures=failures)
    assert step == RetryAfter(after_s + 0.5 * min(5.0, 0.5 * 2.0 ** (failures - 1)))


@given(healths, troubles, st.booleans(), st.booleans())
def test_each_failure_has_one_consequence(
    health: Health, trouble: Trouble, has_others: bool, under_backpressure: bool
) -> None:
    policy = replace(POLICY, has_other_accounts=has_others)
    step = _after_failure(health, trouble, policy, under_backpressure=under_backpressure)
    match step:
        case HoldAccount():
            assert has_others
            assert health.others_failing
        case GiveUp():
            assert trouble.is_its_own
            assert trouble.age_s >= GIVE_UP_S
        case Defer(wait_s):
            assert trouble.sets_aside(ASIDE_S, under_backpressure)
            assert wait_s == next_try_s(trouble.age_s, ASIDE_S, GIVE_UP_S)
        case RetryAfter():
            assert not trouble.gives_up(ASIDE_S, GIVE_UP_S)
            assert not trouble.sets_aside(ASIDE_S, under_backpressure)


# While there is no slot


@given(st.none() | troubles, st.booleans())
def test_while_it_waits_for_a_slot_a_batch_is_deferred_if_others_went_through(
    trouble: Trouble | None, under_backpressure: bool
) -> None:
    step = POLICY.while_waiting(trouble, under_backpressure=under_backpressure)
    is_due = (
        trouble is not None
        and trouble.is_its_own
        and (under_backpressure or trouble.lasting_s >= ASIDE_S)
    )
    assert isinstance(step, Defer) == is_due


# The tries of a key


def test_a_key_without_failures_is_in_no_trouble() -> None:
    assert Tries().trouble(age_s=1.0, now=1.0) is None


@given(st.lists(st.tuples(st.floats(0, 100), st.integers(0, 5)), min_size=1, max_size=10))
def test_trouble_is_measured_from_the_first_failure(steps: list[tuple[float, int]]) -> None:
    tries, now, successes = Tries(), 1_000.0, 7
    first_at, first_successes = now + steps[0][0], successes + steps[0][1]
    for step_s, taken in steps:
        now, successes = now + step_s, successes + taken
        tries.count(BROKEN)
        trouble = tries.observe(replace(WELL, successes=successes), now, now)
        assert trouble == Trouble(now - first_at, now, successes - first_successes, 0)
        later = tries.trouble(now + 1, now + 1)
        assert later == replace(trouble, lasting_s=now + 1 - first_at, age_s=now + 1)
    assert tries.failures == len(steps)


@pytest.mark.parametrize("answer", [TAKEN, REFUSED, CONFLICT, Throttled(1.0), OnHold("x", "")])
def test_no_other_answer_counts_as_a_failure(answer: Verdict) -> None:
    tries = Tries()
    tries.count(answer)
    assert (tries.failures, tries.unreadable) == (0, 0)
