"""When a `scheduled_at` is."""

import pytest

from streamer.sandbox.rules import scheduled_time

NOW = 1_798_761_600.0  # 2027-01-01T00:00:00Z


@pytest.mark.parametrize(
    ("text", "ahead_s"),
    [
        ("in 1 min", 60),
        ("In 90 minutes", 5400),
        ("in an hour", 3600),
        (" in 2 days ", 172_800),
        ("2027-01-01T00:00:01.500Z", 1.5),
        ("2027-01-01T02:00:00+02:00", 0),
        ("2027-01-01T00:10:00", 600),
        ("2026-12-31", -86_400),
    ],
)
def test_valid_times_are_accepted(text: str, ahead_s: float) -> None:
    assert scheduled_time(text, NOW) == NOW + ahead_s


@pytest.mark.parametrize(
    "text", ["", "soon", "in a minor", "in -1 hours", "2027-13-01", "1798761600"]
)
def test_invalid_times_are_refused(text: str) -> None:
    assert scheduled_time(text, NOW) is None
