"""`doctor`'s check of Kafka's offset retention."""

import pytest

from streamer.doctor.check_result import Level
from streamer.doctor.kafka import check_retention


@pytest.mark.parametrize(
    ("minutes", "level", "words"),
    [
        (10_080, Level.OK, "7 days"),
        (43_200, Level.OK, "30 days"),
        (10_079, Level.WARNING, "6 days"),
        (1_440, Level.WARNING, "24 hours"),
        (60, Level.WARNING, "1 hour"),
        (5, Level.WARNING, "5 minutes"),
    ],
)
def test_short_offset_retention_is_a_warning(minutes: int, level: Level, words: str) -> None:
    found = check_retention(minutes)
    assert found.level is level
    assert f"for {words}" in found.text
    assert (found.mend is None) == (level is Level.OK)
