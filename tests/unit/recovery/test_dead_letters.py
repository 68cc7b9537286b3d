"""Parsing and filtering dead letters."""

from datetime import UTC, datetime, timedelta

import orjson
import pytest
from confluent_kafka import Message
from hypothesis import given
from hypothesis import strategies as st

from streamer.kafka.stored import StoredRecord
from streamer.model.campaign import CampaignName
from streamer.model.instants import milliseconds
from streamer.model.reasons import DeadReason
from streamer.model.record import RecordId
from streamer.model.wire import REASON, source_headers
from streamer.recovery.dead_letters import DeadLetterFilter, DeadLetterReader, read_dead_letter

START = datetime(2026, 11, 24, tzinfo=UTC)
HERE = RecordId("dead", 0, 7)
SOURCE = RecordId("input", 3, 42)


def stored(
    reason: str = "undecodable", value: bytes | None = None, seconds: int = 0
) -> StoredRecord:
    at = milliseconds(START + timedelta(seconds=seconds))
    return StoredRecord(HERE, at, None, value, [(REASON, reason.encode()), *source_headers(SOURCE)])


def test_the_last_source_header_counts() -> None:
    record = stored()
    twice = [*source_headers(RecordId("forged", 0, 0)), *record.headers]
    dead_letter = read_dead_letter(record._replace(headers=twice))
    assert dead_letter is not None
    assert (dead_letter.source, dead_letter.place) == (SOURCE, "0/7")


@pytest.mark.parametrize("missing", range(4))
def test_records_without_headers_are_skipped(missing: int) -> None:
    record = stored()
    headers = [header for i, header in enumerate(record.headers) if i != missing]
    dead_letters = DeadLetterReader(DeadLetterFilter())
    assert list(dead_letters.among([record._replace(headers=headers), record])) == [
        read_dead_letter(record)
    ]
    assert dead_letters.malformed == 1


times = st.none() | st.integers(-3, 3).map(lambda seconds: START + timedelta(seconds=seconds))
campaigns = st.sampled_from([None, "acme/spring", "acme/other", "b/spring"])


@given(
    st.sampled_from(DeadReason),
    campaigns,
    st.integers(-3, 3),
    st.frozensets(st.sampled_from(DeadReason)),
    campaigns,
    st.sampled_from([None, "acme", "b"]),
    times,
    times,
)
def test_filters_are_combined(
    reason: DeadReason,
    name: str | None,
    seconds: int,
    reasons: frozenset[DeadReason],
    wanted_name: str | None,
    wanted_organization: str | None,
    since: datetime | None,
    until: datetime | None,
) -> None:
    value = None
    if name is not None:
        organization, campaign_id = name.split("/")
        value = orjson.dumps({"organization_id": organization, "campaign_id": campaign_id, "x": 1})
    dead_letter = read_dead_letter(stored(reason, value, seconds))
    assert dead_letter is not None
    campaign = None if wanted_name is None else CampaignName(*wanted_name.split("/"))
    at = START + timedelta(seconds=seconds)
    selection = DeadLetterFilter(reasons, campaign, since, until, wanted_organization)
    matches = selection.matches(dead_letter)
    may_match = selection.may_match()
    message = Message(value=value, headers=dead_letter.stored.headers)
    assert may_match is None or may_match(message) or not matches
    assert matches == all(
        (
            wanted_organization is None or (name or "").startswith(f"{wanted_organization}/"),
            not reasons or reason in reasons,
            wanted_name is None or wanted_name == name,
            since is None or since <= at,
            until is None or at < until,
        )
    )
