"""Choosing the recipients to retry."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from streamer.model.outcome import same_address
from streamer.model.published import PublishedOutcome
from streamer.model.reasons import Reason, Status
from streamer.recovery.candidates import Candidate, RetrySelector

START = datetime(2026, 11, 24, tzinfo=UTC)


@st.composite
def histories(draw: st.DrawFn) -> list[PublishedOutcome]:
    """Outcomes of a few addresses in any order, each with its own source."""
    ends = draw(
        st.lists(
            st.tuples(
                st.sampled_from(["a@example.com", " A@Example.com", "b@example.com", "nobody"]),
                st.sampled_from([None, *Reason]),
                st.integers(0, 5),
            ),
            max_size=12,
        )
    )
    return [
        PublishedOutcome.model_validate(
            {
                "organization_id": "acme",
                "campaign_id": "spring",
                "recipient_id": "r",
                "email": email,
                "status": Status.SENT if reason is None else reason.status,
                "reason": reason,
                "detail": None,
                "email_id": "an id" if reason is None else None,
                "batch_id": None,
                "attempts": 0,
                "occurred_at": START + timedelta(seconds=seconds),
                "source": {"topic": "t", "partition": 0, "offset": offset},
            }
        )
        for offset, (email, reason, seconds) in enumerate(ends)
    ]


def choose(
    outcomes: list[PublishedOutcome], status: Status, reasons: frozenset[Reason]
) -> list[Candidate]:
    choice = RetrySelector(status, reasons, may_mail_twice=True)
    for outcome in outcomes:
        choice.add_candidate(outcome)
    for outcome in outcomes:
        choice.update(outcome)
    return choice.select({}).due


@given(histories(), st.sampled_from(Status), st.frozensets(st.sampled_from(Reason), max_size=3))
def test_the_last_outcome_of_unsent_addresses_is_chosen(
    outcomes: list[PublishedOutcome], status: Status, reasons: frozenset[Reason]
) -> None:
    chosen = choose(outcomes, status, reasons)
    expected = []
    for address in {same_address(outcome.email) for outcome in outcomes}:
        its = [outcome for outcome in outcomes if same_address(outcome.email) == address]
        telling = [outcome for outcome in its if outcome.reason is not Reason.DUPLICATE]
        if not telling or any(outcome.status is Status.SENT for outcome in its):
            continue
        last = max(telling, key=lambda outcome: (outcome.occurred_at, outcome.record_id))
        if last.status is status and (not reasons or last.reason in reasons):
            expected.append(last.record_id)
    assert sorted(outcome.record_id for outcome in chosen) == sorted(expected)


@given(histories(), st.data())
def test_read_order_does_not_matter(outcomes: list[PublishedOutcome], data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(outcomes))
    one = choose(outcomes, Status.FAILED, frozenset())
    other = choose(shuffled, Status.FAILED, frozenset())
    assert {o.record_id for o in one} == {o.record_id for o in other}


@given(histories())
def test_who_was_ever_indeterminate_needs_consent(outcomes: list[PublishedOutcome]) -> None:
    selector = RetrySelector(Status.FAILED, frozenset())
    for outcome in outcomes:
        selector.add_candidate(outcome)
    for outcome in outcomes:
        selector.update(outcome)
    selection = selector.select({})
    unsure = {
        same_address(outcome.email)
        for outcome in outcomes
        if outcome.status is Status.INDETERMINATE
    }
    assert not unsure & {same_address(each.email) for each in selection.due}
    everyone = choose(outcomes, Status.FAILED, frozenset())
    assert len(everyone) == len(selection.due) + selection.unsure
