"""Filtering outcomes."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.kafka.stored import StoredRecord
from streamer.model.campaign import CampaignName
from streamer.model.outcome import UnreadableOutcomeError, read_outcome
from streamer.model.published import PublishedOutcome
from streamer.model.reasons import Reason, Status
from streamer.model.record import RecordId
from streamer.recovery.outcomes import OutcomeFilter, OutcomeReader

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


def _value(changes: dict[str, object], writer: str) -> bytes:
    value: dict[str, object] = OUTCOME.model_dump(mode="json") | changes
    if writer == "of another order":
        value = dict(reversed(value.items()))
    spaced = writer == "spaced"
    return json.dumps(value, separators=(", ", ": ") if spaced else (",", ":")).encode()


_VALUES = st.builds(
    _value,
    st.builds(
        lambda organization, campaign, recipient, email, word: {
            "organization_id": organization,
            "campaign_id": campaign,
            "recipient_id": recipient,
            "email": email,
            "status": "sent" if word is None else word.status,
            "reason": word,
            "email_id": "e" if word is None else None,
        },
        st.sampled_from(["acme", "acme2"]),
        st.sampled_from(["spring", "spring-2"]),
        st.sampled_from(["r-1", "r-2"]),
        st.sampled_from(["Ann@Example.com", "bo@example.com", 'an "odd" one', "é@b.test"]),
        st.sampled_from([None, Reason.REJECTED, Reason.TOO_LARGE, Reason.DUPLICATE]),
    ),
    st.sampled_from(["worker", "spaced", "of another order"]),
)
_FILTERS = st.builds(
    OutcomeFilter,
    st.sampled_from([None, *Status]),
    st.frozensets(st.sampled_from([Reason.REJECTED, Reason.DUPLICATE])),
    st.sampled_from([None, "r-1"]),
    st.sampled_from([None, "ann@example.com", 'an "odd" one', "é@b.test"]),
)


@given(st.lists(_VALUES | st.sampled_from([b"{}", b"", b"?"])), _FILTERS)
def test_filtering_before_parsing_leaves_nothing_out(
    values: list[bytes], wanted: OutcomeFilter
) -> None:
    records = [
        StoredRecord(RecordId("o", 0, offset), 0, None, value, [])
        for offset, value in enumerate(values)
    ]
    campaign = CampaignName("acme", "spring")
    everything = OutcomeReader(campaign)
    expected = [pair for pair in everything.among(records) if wanted.matches(pair[1])]
    reference = [value for value in values if _is_of(value, campaign)]
    assert everything.found == len(reference)
    for may_match in (wanted.of_recipient(), wanted.of_words()):
        filtered = OutcomeReader(campaign)
        found = [p for p in filtered.among(records, may_match) if wanted.matches(p[1])]
        assert found == expected
        assert (filtered.found, filtered.unreadable) == (everything.found, everything.unreadable)


def _is_of(value: bytes, campaign: CampaignName) -> bool:
    try:
        outcome = read_outcome(value)
    except UnreadableOutcomeError:
        return False
    return (outcome.organization_id, outcome.campaign_id) == campaign


def test_outcomes_that_are_not_wanted_are_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[bytes | None] = []

    def counted(value: bytes | None) -> PublishedOutcome:
        parsed.append(value)
        return read_outcome(value)

    monkeypatch.setattr("streamer.recovery.outcomes.read_outcome", counted)
    values = [_value({"campaign_id": "other"}, "worker"), _value({"recipient_id": "r-2"}, "worker")]
    values.append(_value({}, "worker"))
    records = [StoredRecord(RecordId("o", 0, n), 0, None, v, []) for n, v in enumerate(values)]
    wanted = OutcomeFilter(recipient_id="r-1")
    reader = OutcomeReader(CampaignName("acme", "spring"))
    assert len(list(reader.among(records, wanted.of_recipient()))) == 1
    assert parsed == values[2:]
