"""Filtering outcomes."""

import pytest

from streamer.model.published import PublishedOutcome
from streamer.model.reasons import Reason, Status
from streamer.recovery.outcomes import OutcomeFilter

OUTCOME = PublishedOutcome.model_validate(
    {
        "organization_id": "acme",
        "campaign_id": "spring",
        "recipient_id": "r-1",
        "email": "Ann@Example.com",
        "status": "failed",
        "reason": "rejected",
        "detail": None,
        "email_id": None,
        "batch_id": None,
        "attempts": 1,
        "occurred_at": "2026-11-24T03:40:00.123Z",
        "source": {"topic": "t", "partition": 0, "offset": 1},
    }
)
BOTH = frozenset({Reason.REJECTED, Reason.TOO_LARGE})


@pytest.mark.parametrize(
    ("asked", "taken"),
    [
        (OutcomeFilter(), True),
        (OutcomeFilter(Status.FAILED, BOTH, "r-1", "ann@example.com"), True),
        (OutcomeFilter(Status.SENT), False),
        (OutcomeFilter(reasons=frozenset({Reason.TOO_LARGE})), False),
        (OutcomeFilter(recipient_id="r-2"), False),
        (OutcomeFilter(address="bo@example.com"), False),
    ],
)
def test_filters_are_combined(asked: OutcomeFilter, taken: bool) -> None:
    assert asked.matches(OUTCOME) == taken
