"""Parsing times given on the command line."""

from datetime import UTC, datetime, timedelta

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from streamer.cli.times import parse_time, since
from streamer.model.instants import as_text, from_milliseconds, milliseconds

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "ago"),
    [
        ("90s", timedelta(seconds=90)),
        ("30m", timedelta(minutes=30)),
        ("2h", timedelta(hours=2)),
        ("1H30M", timedelta(minutes=90)),
        ("3d", timedelta(days=3)),
        ("2w", timedelta(days=14)),
    ],
)
def test_ages_are_subtracted_from_now(text: str, ago: timedelta) -> None:
    assert since(text, NOW) == NOW - ago


def test_rfc3339_times_are_parsed() -> None:
    assert since("2026-11-24T13:00:00+01:00", NOW) == NOW


@pytest.mark.parametrize(
    "text",
    ["", "h", "2", "2x", "-2h", "yesterday", "2026-11-24", "2026-11-24T12:00:00", "1764000000"],
)
def test_an_invalid_time_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="invalid time"):
        parse_time(text)


def test_a_time_out_of_range_is_refused() -> None:
    with pytest.raises(typer.BadParameter):
        parse_time("900000d")


@given(st.datetimes(datetime(1971, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001
def test_times_round_trip_through_milliseconds(instant: datetime) -> None:
    back = from_milliseconds(milliseconds(instant))
    assert abs(back - instant) <= timedelta(milliseconds=1)
    assert since(as_text(back), NOW) == back
