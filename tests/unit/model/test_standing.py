"""A campaign's state in words."""

from datetime import UTC, datetime, timedelta

import pytest

from streamer.model.campaign import CampaignState
from streamer.model.standing import CampaignCondition, distance, standing

NOW = datetime(2026, 12, 1, 7, 0, tzinfo=UTC)
START = datetime(2026, 12, 1, 9, 0, tzinfo=UTC)
ACTIVE, PAUSED, CANCELLED, COMPLETED = (
    CampaignState.ACTIVE,
    CampaignState.PAUSED,
    CampaignState.CANCELLED,
    CampaignState.COMPLETED,
)


@pytest.mark.parametrize(
    ("condition", "late", "hold", "words"),
    [
        (CampaignCondition(ACTIVE, is_draft=True), 0, None, "draft"),
        (CampaignCondition(ACTIVE, is_draft=True), 0, "a (quota)", "draft"),
        (CampaignCondition(ACTIVE), 0, None, "sending"),
        (CampaignCondition(None), 0, None, "sending"),
        (CampaignCondition(ACTIVE), 5, "acme (quota)", "waiting for account acme (quota)"),
        (CampaignCondition(PAUSED), 5, "acme (quota)", "paused by operator"),
        (
            CampaignCondition(PAUSED, paused_for="20 of 20 failed, rejected"),
            0,
            None,
            "paused: 20 of 20 failed, rejected",
        ),
        (
            CampaignCondition(PAUSED, waits_until=START, is_draft=True),
            0,
            None,
            "scheduled for 2026-12-01 09:00 UTC (in 2 h)",
        ),
        (CampaignCondition(CANCELLED), 5, "a (quota)", "cancelled"),
        (CampaignCondition(COMPLETED), 0, None, "completed"),
        (CampaignCondition(COMPLETED), 4, "a (quota)", "completed, 4 late ones under way"),
    ],
)
def test_states_are_words(
    condition: CampaignCondition, late: int, hold: str | None, words: str
) -> None:
    assert standing(condition, NOW, late=late, hold=hold) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "in 0 s"),
        (59, "in 59 s"),
        (60, "in 1 min"),
        (-3_600, "1 h ago"),
        (86_399, "in 23 h"),
        (-200_000, "2 d ago"),
    ],
)
def test_distances_have_one_unit(seconds: int, words: str) -> None:
    assert distance(timedelta(seconds=seconds)) == words
