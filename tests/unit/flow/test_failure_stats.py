"""Whether it is the provider or the batch."""

import math
from datetime import UTC, datetime, timedelta, timezone

from hypothesis import example, given
from hypothesis import strategies as st

from streamer.flow.failure_stats import (
    OUTAGE_FAILURES,
    FailureStats,
    circuit_pause_s,
    hold_until,
    next_try_s,
)

MAX_PAUSE_S = 5.0
ENOUGH_OTHERS = 3

seconds = st.floats(0, 100_000)
limits = st.floats(0.1, 10_000)
zones = st.integers(-14 * 60, 14 * 60).map(lambda m: timezone(timedelta(minutes=m)))


# The circuit


@given(st.integers(0, 10_000))
def test_pauses_grow_and_are_bounded(failures: int) -> None:
    assert 0 <= circuit_pause_s(failures) <= circuit_pause_s(failures + 1) <= MAX_PAUSE_S


@given(st.integers(0, 10_000))
def test_pauses_start_at_the_fifth_failure(failures: int) -> None:
    assert (circuit_pause_s(failures) > 0) == (failures >= OUTAGE_FAILURES)


def test_pauses_double_up_to_the_maximum() -> None:
    pauses = [circuit_pause_s(failures) for failures in range(OUTAGE_FAILURES, 20)]
    assert pauses[:5] == [0.5, 1.0, 2.0, 4.0, MAX_PAUSE_S]
    assert set(pauses[5:]) == {MAX_PAUSE_S}


# A batch in trouble


@given(seconds, seconds, st.integers(0, ENOUGH_OTHERS - 1), limits, limits)
def test_an_outage_gives_up_no_batch_and_defers_late(
    lasting_s: float, age_s: float, others: int, set_aside_s: float, give_up_s: float
) -> None:
    trouble = FailureStats(lasting_s, age_s, others, others_failing=1)
    assert not trouble.should_give_up(set_aside_s, give_up_s)
    assert trouble.should_defer(set_aside_s) == (lasting_s >= 3 * set_aside_s)


@given(seconds, seconds, st.integers(0, ENOUGH_OTHERS - 1), limits, limits)
def test_the_only_batch_is_deferred_and_never_given_up(
    lasting_s: float, age_s: float, others: int, set_aside_s: float, give_up_s: float
) -> None:
    trouble = FailureStats(lasting_s, age_s, others, others_failing=0)
    assert not trouble.should_give_up(set_aside_s, give_up_s)
    assert trouble.should_defer(set_aside_s) == (lasting_s >= set_aside_s)


def test_two_failures_do_not_give_up_an_old_batch() -> None:
    # It was sent once, then its account was held for hours.
    hours = 8 * 3600
    assert not FailureStats(1.0, hours, 5, others_failing=2).should_give_up(20.0, 3600.0)
    assert FailureStats(20.0, hours, 5, others_failing=2).should_give_up(20.0, 3600.0)


@given(seconds, seconds, st.integers(ENOUGH_OTHERS, 1000), limits, limits)
def test_an_isolated_batch_is_deferred_then_given_up(
    lasting_s: float, age_s: float, others: int, set_aside_s: float, give_up_s: float
) -> None:
    trouble = FailureStats(lasting_s, age_s, others, others_failing=1)
    assert trouble.should_defer(set_aside_s) == (lasting_s >= set_aside_s)
    is_due = lasting_s >= set_aside_s and age_s >= give_up_s
    assert trouble.should_give_up(set_aside_s, give_up_s) == is_due


@given(
    st.floats(0.1, 60),
    st.floats(1, 100).map(lambda factor: 2 * factor),
    st.lists(st.floats(0, 5), min_size=1, max_size=50),
)
def test_a_batch_is_deferred_before_it_is_given_up(
    set_aside_s: float, factor: float, steps: list[float]
) -> None:
    """Its age is what it lasts, in the first delivery: whatever the times between its failures,
    the first verdict that is not to go on is to set it aside, unless one call took so long that
    both have come."""
    give_up_s = set_aside_s * factor
    lasting_s = 0.0
    for step in steps:
        lasting_s += step
        trouble = FailureStats(lasting_s, lasting_s, ENOUGH_OTHERS, others_failing=1)
        if trouble.should_give_up(set_aside_s, give_up_s):
            assert trouble.should_defer(set_aside_s)
            assert step > give_up_s - set_aside_s
            return
        if trouble.should_defer(set_aside_s):
            return


@given(seconds, seconds, st.integers(0, 10), st.integers(0, 10), limits)
def test_backpressure_defers_only_the_isolated_batch_at_once(
    lasting_s: float, age_s: float, others: int, failing: int, set_aside_s: float
) -> None:
    trouble = FailureStats(lasting_s, age_s, others, failing)
    usually = trouble.should_defer(set_aside_s)
    assert trouble.should_defer(set_aside_s, under_backpressure=True) == (
        usually or others >= ENOUGH_OTHERS
    )


@given(seconds, seconds, st.integers(0, 10), st.integers(0, 10), limits)
def test_an_ambiguous_queue_is_parked_late(
    lasting_s: float, age_s: float, others: int, failing: int, set_aside_s: float
) -> None:
    trouble = FailureStats(lasting_s, age_s, others, failing)
    sure = others >= ENOUGH_OTHERS and lasting_s >= min(2, set_aside_s)
    doubted = lasting_s >= 3 * set_aside_s
    assert trouble.should_park_queue(set_aside_s) == (sure or doubted)


# When it is tried again


@given(seconds, limits, limits)
@example(age_s=50_000.0, set_aside_s=20.0, give_up_s=3_600.0)
def test_the_next_try_is_in_the_future(age_s: float, set_aside_s: float, give_up_s: float) -> None:
    wait_s = next_try_s(age_s, set_aside_s, give_up_s)
    assert set_aside_s <= wait_s <= max(age_s, set_aside_s)


@given(st.floats(0.1, 60), st.floats(1, 1_000), st.floats(0, 5))
def test_deferrals_double_until_the_give_up_time(
    set_aside_s: float, factor: float, call_s: float
) -> None:
    give_up_s = set_aside_s * factor
    age_s, waits = set_aside_s, []
    while age_s < give_up_s:
        wait_s = next_try_s(age_s, set_aside_s, give_up_s)
        if age_s + wait_s < give_up_s:
            assert wait_s == age_s  # so that its age doubles
        waits.append(wait_s)
        age_s += wait_s + call_s
    assert len(waits) <= math.log2(factor) + 2
    # The last one does not carry it far beyond the end.
    assert age_s <= (give_up_s + set_aside_s + call_s) * (1 + 1e-9)  # of floats


# Until when


@given(st.datetimes(datetime(2020, 1, 1), datetime(2100, 1, 1), timezones=zones))  # noqa: DTZ001
def test_a_daily_quota_hold_ends_at_midnight_utc(now: datetime) -> None:
    until = hold_until("daily_quota_exceeded", now)
    assert until is not None
    assert timedelta(0) < until - now <= timedelta(days=1)
    assert until.utcoffset() == timedelta(0)
    assert (until.hour, until.minute, until.second, until.microsecond) == (0, 0, 0, 0)


@given(st.text().filter(lambda reason: reason != "daily_quota_exceeded"))
@example("monthly_quota_exceeded")
@example("invalid_api_key")
def test_other_holds_have_no_known_end(reason: str) -> None:
    assert hold_until(reason, datetime(2026, 11, 24, tzinfo=UTC)) is None
