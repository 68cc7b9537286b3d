"""Reading published outcomes, and the names in arbitrary values."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.model.event import parse
from streamer.model.outcome import (
    Names,
    UnreadableOutcomeError,
    read_names,
    read_outcome,
    same_address,
)
from streamer.model.reasons import Reason
from streamer.model.record import Outcome, Record, RecordId
from streamer.model.wire import outcome_value

EVENT = (
    b'{"organization_id":"acme","campaign_id":"spring","recipient_id":"r","email":"A@Example.com"}'
)


@given(st.sampled_from(Reason), st.none() | st.text())
def test_outcomes_round_trip(reason: Reason, detail: str | None) -> None:
    record = Record(RecordId("t", 3, 42), None, EVENT, None, 0.0)
    record.attach_event(parse(EVENT))
    record.address = "a@example.com"
    outcome = Outcome.of(reason, detail)
    record.resolve(outcome, 1_800_000_000.125)
    told = read_outcome(outcome_value(record, outcome))
    assert told.record_id == record.record_id
    assert (told.status, told.reason, told.detail) == (reason.status, reason, detail)
    assert (told.organization_id, told.campaign_id, told.recipient_id) == ("acme", "spring", "r")
    assert told.email == "a@example.com"
    assert told.occurred_at.timestamp() == 1_800_000_000.125


@pytest.mark.parametrize("value", [None, b"", b"{}", b"\xff", b'{"status":"sent"}'])
def test_invalid_outcomes_are_unreadable(value: bytes | None) -> None:
    with pytest.raises(UnreadableOutcomeError):
        read_outcome(value)


@given(st.none() | st.binary())
def test_arbitrary_values_have_no_names(value: bytes | None) -> None:
    assert read_names(value) == Names()


def test_names_of_a_malformed_event() -> None:
    assert read_names(EVENT) == Names("acme", "spring", "r", "A@Example.com")
    assert read_names(b'{"organization_id":"acme","campaign_id":7}') == Names("acme")
    assert read_names(b"[1]") == Names()


def test_addresses_are_compared_in_normalised_form() -> None:
    assert same_address(" A@Example.com") == same_address("a@example.com")
    assert same_address("No Body") == "No Body"
