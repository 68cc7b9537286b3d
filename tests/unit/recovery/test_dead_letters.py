"""Parsing and filtering dead letters."""

from datetime import UTC, datetime, timedelta

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.kafka.reading import Stored
from streamer.model.campaign import CampaignName
from streamer.model.instants import milliseconds
from streamer.model.reasons import DeadReason
from streamer.model.record import Coordinates
from streamer.model.wire import REASON, source_headers
from streamer.recovery.dead_letters import Letters, Wanted, read_letter

START = datetime(2026, 11, 24, tzinfo=UTC)
HERE = Coordinates("dead", 0, 7)
SOURCE = Coordinates("input", 3, 42)


def stored(reason: str = "undecodable", value: bytes | None = None, seconds: int = 0) -> Stored:
    at = milliseconds(START + timedelta(seconds=seconds))
    return Stored(HERE, at, None, value, [(REASON, reason.encode()), *source_headers(SOURCE)])


def test_the_last_source_header_counts() -> None:
    record = stored()
    twice = [*source_headers(Coordinates("forged", 0, 0)), *record.headers]
    letter = read_letter(record._replace(headers=twice))
    assert letter is not None
    assert (letter.source, letter.place) == (SOURCE, "0/7")


@pytest.mark.parametrize("missing", range(4))
def test_records_without_headers_are_skipped(missing: int) -> None:
    record = stored()
    headers = [header for i, header in enumerate(record.headers) if i != missing]
    letters = Letters(Wanted())
    assert list(letters.among([record._replace(headers=headers), record])) == [read_letter(record)]
    assert letters.strangers == 1


times = st.none() | st.integers(-3, 3).map(lambda seconds: START + timedelta(seconds=seconds))
campaigns = st.sampled_from([None, "acme/spring", "acme/other", "b/spring"])


@given(
    st.sampled_from(DeadReason),
    campaigns,
    st.integers(-3, 3),
    st.frozensets(st.sampled_from(DeadReason)),
    campaigns,
    times,
    times,
)
def test_filters_are_combined(
    reason: DeadReason,
    name: str | None,
    seconds: int,
    reasons: frozenset[DeadReason],
    wanted_name: str | None,
    since: datetime | None,
    until: datetime | None,
) -> None:
    value = None
    if name is not None:
        organization, campaign_id = name.split("/")
        value = orjson.dumps({"organization_id": organization, "campaign_id": campaign_id, "x": 1})
    letter = read_letter(stored(reason, value, seconds))
    assert letter is not None
    campaign = None if wanted_name is None else CampaignName(*wanted_name.split("/"))
    at = START + timedelta(seconds=seconds)
    assert Wanted(reasons, campaign, since, until).takes(letter) == all(
        (
            not reasons or reason in reasons,
            wanted_name is None or wanted_name == name,
            since is None or since <= at,
            until is None or at < until,
        )
    )
