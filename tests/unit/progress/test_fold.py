"""The fold from records to counts."""

import orjson
import pytest

from streamer.model.event import DeadEventError, parse
from streamer.model.record import Headers
from streamer.model.wire import PARKED_AT, SOURCE_TOPIC
from streamer.progress.fold import CampaignKey, Cursor, Stream, fold, named_campaign
from tests.unit.progress.records import RETURNED, FakeRecord, dead_letter, event, named, outcome

OUTCOMES = Cursor(Stream.OUTCOMES, "o", 0)
INPUT = Cursor(Stream.RECIPIENTS, "t", 0)
DEAD = Cursor(Stream.DEAD_LETTERS, "d", 0)
PARKED = Cursor(Stream.PARKED, "p", 0)
SPRING, AUTUMN = CampaignKey("acme", "spring"), CampaignKey("acme", "autumn")


def test_outcomes_are_counted_by_status_and_reason() -> None:
    deltas = fold(
        OUTCOMES,
        [
            outcome(3, second=5),
            outcome(4, "skipped", "suppressed", second=9),
            outcome(6, campaign="autumn"),
            outcome(7, second=2),
        ],
    )
    assert deltas.keys() == {SPRING, AUTUMN}
    spring = deltas[SPRING]
    assert spring.increments == {"sent:": 2, "skipped:suppressed": 1}
    assert (spring.start, spring.end) == (3, 8)
    assert (spring.first or "")[17:19] == "02"
    assert (spring.last or "")[17:19] == "09"


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"no json",
        b"[]",
        b"5",
        orjson.dumps({"organization_id": "acme"}),
        orjson.dumps({"organization_id": ["acme"], "campaign_id": "spring"}),
        named(0, "with blank"),
        named(0, "spring\n"),
        named(0, "x" * 129),
    ],
)
def test_records_without_campaign_are_not_counted(value: bytes | None) -> None:
    for cursor in (OUTCOMES, INPUT, DEAD, PARKED):
        assert fold(cursor, [FakeRecord(0, value)]) == {}


@pytest.mark.parametrize(
    ("field", "value"),
    [("status", "lost"), ("status", None), ("status", 5), ("reason", 5), ("reason", "a b")],
)
def test_malformed_outcomes_are_not_counted(field: str, value: object) -> None:
    read = orjson.loads(outcome(0).body or b"")
    assert fold(OUTCOMES, [FakeRecord(0, orjson.dumps({**read, field: value}))]) == {}


def test_malformed_times_are_ignored() -> None:
    read = orjson.loads(outcome(0).body or b"")
    for time in ("2026-11-24", None, 5, "2026-11-24T03:40:00.123+01:00"):
        body = orjson.dumps({**read, "occurred_at": time})
        delta = fold(OUTCOMES, [FakeRecord(0, body)])[SPRING]
        assert (delta.first, delta.last, delta.increments) == (None, None, {"sent:": 1})


def test_returned_records_are_not_received_again() -> None:
    replayed: Headers = [("streamer-replay-of", b"1")]
    deltas = fold(
        INPUT,
        [event(0), event(1, head=RETURNED), event(2, head=replayed), event(3, "autumn")],
    )
    assert deltas[SPRING].increments == {"received": 2}
    assert (deltas[SPRING].start, deltas[SPRING].end) == (0, 3)
    assert deltas[AUTUMN].increments == {"received": 1}


def test_dead_letters_are_counted_by_reason() -> None:
    records = [dead_letter(0, "invalid_event"), FakeRecord(1, named(1)), dead_letter(2, "No Word")]
    delta = fold(DEAD, records)[SPRING]
    assert delta.increments == {"dead:invalid_event": 1, "dead:": 2}


def test_source_headers_of_other_topics_are_ignored() -> None:
    """Workers only accept source headers naming their own topic."""
    elsewhere: Headers = [(SOURCE_TOPIC, b"other"), *RETURNED[1:]]
    incomplete: Headers = RETURNED[:2]
    # Copied from another topic with all headers, including the parked one: not parked here.
    copied: Headers = [*elsewhere, (PARKED_AT, b"3/70")]
    heads = (RETURNED, elsewhere, incomplete, copied)
    delta = fold(INPUT, [event(at, head=head) for at, head in enumerate(heads)])[SPRING]
    assert delta.increments == {"received": 3}


def test_parked_records_are_counted_in_and_out() -> None:
    assert fold(PARKED, [event(0), event(1)])[SPRING].increments == {"parked": 2}
    back: Headers = [*RETURNED, (PARKED_AT, b"3/70")]
    assert fold(INPUT, [event(0, head=back)])[SPRING].increments == {"parked": -1}
    # Moved within the parked topic.
    assert fold(PARKED, [event(0, head=back)]) == {}


def test_uncounted_parked_records_are_not_counted_out() -> None:
    back: Headers = [*RETURNED, (PARKED_AT, b"3/70")]
    records = [event(0, head=back), event(1, head=[*RETURNED, (PARKED_AT, b"3/71")])]
    assert fold(INPUT, records, {3: 71, 0: 99})[SPRING].increments == {"parked": -1}
    assert fold(PARKED, records, {3: 71})[SPRING].increments == {"parked": 1}


def test_a_record_resolved_while_parked_is_not_parked() -> None:
    left: Headers = [(PARKED_AT, b"3/70")]
    ended = [outcome(0, "failed", "too_large", head=left), outcome(1, "failed", "too_large")]
    assert fold(OUTCOMES, ended)[SPRING].increments == {"failed:too_large": 2, "parked": -1}
    assert fold(OUTCOMES, ended, {3: 71})[SPRING].increments == {"failed:too_large": 2}
    dead = [dead_letter(0, "invalid_event", head=left), dead_letter(1, "invalid_event")]
    assert fold(DEAD, dead)[SPRING].increments == {"dead:invalid_event": 2, "parked": -1}
    assert fold(DEAD, dead, {3: 71})[SPRING].increments == {"dead:invalid_event": 2}


@pytest.mark.parametrize(
    "odd",
    [
        b"NaN",
        b"-Infinity",
        b"1e999",
        b"123456789012345678901234567890",
        b'"\\ud800"',
        b'"\\u0000"',
        b"[" * 150 + b"]" * 150,
        b"[" * 1500 + b"]" * 1500,
        b'{"campaign_id":"autumn"}',
        b'1},"campaign_id":"autumn","z":{"y":1',
    ],
)
def test_every_valid_event_is_counted_as_received(odd: bytes) -> None:
    """Every event a worker accepts must be counted here, or outcomes would outnumber inputs."""
    value = b'{"organization_id":"acme","campaign_id":"spring","recipient_id":"r","email":"e"'
    value += b',"variables":{"x":' + odd + b"}}"
    try:
        read = parse(value)
    except DeadEventError:
        return
    assert named_campaign(value) == (read.organization_id, read.campaign_id)
