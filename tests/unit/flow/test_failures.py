"""What organizations in trouble may take from others."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from streamer.flow.failure_stats import FailureStats
from streamer.flow.failures import FailureTracker

ASIDE_S = 20.0
LONG_S = 3600.0
SHARE = 2
ITS_OWN = FailureStats(lasting_s=2.0, age_s=2.0, others_accepted=3, others_failing=0)
MAYBE_ALL = FailureStats(lasting_s=1.0, age_s=1.0, others_accepted=0, others_failing=1)
LONG_DOUBT = FailureStats(lasting_s=3 * ASIDE_S, age_s=60.0, others_accepted=0, others_failing=1)


def test_an_organization_without_failures_is_not_restricted() -> None:
    troubles = FailureTracker(ASIDE_S)
    troubles.record_success("acme")
    assert troubles.max_batches("acme", SHARE, 0.0) is None
    assert not troubles.should_park_queue("acme", SHARE, 0.0, queue_is_large=True)


def test_if_all_fail_a_quota_retries_and_the_queue_is_parked() -> None:
    troubles = FailureTracker(ASIDE_S)
    troubles.record_failure("acme", "a", ITS_OWN)
    assert troubles.max_batches("acme", SHARE, 0.0) == SHARE
    assert troubles.should_park_queue("acme", SHARE, 0.0, queue_is_large=False)
    assert troubles.max_batches("other", SHARE, 0.0) is None


def test_a_brief_failure_parks_nothing() -> None:
    troubles = FailureTracker(ASIDE_S)
    troubles.record_failure("acme", "a", replace(ITS_OWN, lasting_s=1.0))
    assert troubles.max_batches("acme", SHARE, 0.0) == SHARE
    assert not troubles.should_park_queue("acme", SHARE, 0.0, queue_is_large=True)


def test_other_batches_continue_beside_failing_ones() -> None:
    troubles = FailureTracker(ASIDE_S)
    troubles.record_failure("acme", "a", ITS_OWN)
    troubles.record_failure("acme", "b", ITS_OWN)
    troubles.record_success("acme")
    assert troubles.max_batches("acme", SHARE, 0.0) == SHARE + 2
    assert not troubles.should_park_queue("acme", SHARE, 0.0, queue_is_large=True)


def test_a_large_queue_is_parked_if_failures_fill_the_quota() -> None:
    troubles = FailureTracker(ASIDE_S)
    for batch in ("a", "b", "c"):
        assert not troubles.should_park_queue("acme", SHARE, 0.0, queue_is_large=True)
        troubles.record_failure("acme", batch, ITS_OWN)
        troubles.record_success("acme")
    assert troubles.should_park_queue("acme", SHARE, 0.0, queue_is_large=True)
    assert not troubles.should_park_queue("acme", SHARE, 0.0, queue_is_large=False)


def test_an_outage_parks_no_queue() -> None:
    troubles = FailureTracker(ASIDE_S)
    troubles.record_failure("acme", "a", MAYBE_ALL)
    assert not troubles.should_park_queue("acme", SHARE, 0.0, queue_is_large=True)
    troubles.record_failure("acme", "a", LONG_DOUBT)
    assert troubles.should_park_queue("acme", SHARE, 0.0, queue_is_large=False)
    troubles.forget_batch("acme", "a", 1.0)
    assert troubles.max_batches("acme", SHARE, 1.0) is None


def test_suspicion_outlasts_deferred_batches() -> None:
    troubles = FailureTracker(ASIDE_S)
    troubles.record_failure("acme", "a", ITS_OWN)
    troubles.forget_batch("acme", "a", 100.0)
    assert troubles.max_batches("acme", SHARE, 100.0) == SHARE
    assert troubles.should_park_queue("acme", SHARE, 100.0 + LONG_S - 1, queue_is_large=False)
    assert troubles.max_batches("acme", SHARE, 100.0 + LONG_S) is None


def test_a_success_ends_the_suspicion() -> None:
    troubles = FailureTracker(ASIDE_S)
    troubles.record_failure("acme", "a", ITS_OWN)
    troubles.forget_batch("acme", "a", 100.0)
    troubles.record_success("acme")
    assert troubles.max_batches("acme", SHARE, 100.0) is None


events = st.lists(
    st.tuples(
        st.sampled_from(["failed", "taken", "ended"]),
        st.sampled_from(["acme", "other"]),
        st.sampled_from("abc"),
        st.sampled_from([ITS_OWN, MAYBE_ALL, LONG_DOUBT]),
    ),
    max_size=40,
)


@given(events, st.booleans())
def test_restrictions_end_in_time(
    happened: list[tuple[str, str, str, FailureStats]], is_much: bool
) -> None:
    troubles = FailureTracker(ASIDE_S)
    for now, (what, organization, batch, trouble) in enumerate(happened):
        if what == "failed":
            troubles.record_failure(organization, batch, trouble)
        elif what == "taken":
            troubles.record_success(organization)
        else:
            troubles.forget_batch(organization, batch, float(now))
        most = troubles.max_batches(organization, SHARE, float(now))
        assert most is None or most >= SHARE
    for organization in ("acme", "other"):
        for batch in "abc":
            troubles.forget_batch(organization, batch, 1_000.0)
        later = 1_000.0 + LONG_S
        assert troubles.max_batches(organization, SHARE, later) is None
        assert not troubles.should_park_queue(organization, SHARE, later, queue_is_large=is_much)
