"""Counts, and the reports derived from them."""

from datetime import UTC, datetime, timedelta

import orjson
import pytest

from streamer.model.campaign import CampaignState
from streamer.progress.counts import Counts, read_counts
from streamer.progress.fold import CampaignKey
from streamer.progress.report import Report

FIELDS = {
    "generation": "5",
    "at:outcomes:t:0": "17",
    "received": "20",
    "parked": "2",
    "sent:": "10",
    "skipped:suppressed": "3",
    "skipped:duplicate": "1",
    "failed:rejected": "1",
    "dead:invalid_event": "1",
    "first": "2026-11-24T03:40:00.000Z",
    "last": "2026-11-24T03:40:05.000Z",
}
NOW = datetime(2026, 11, 24, 4, 0, tzinfo=UTC)


def report(counts: Counts, expected: int | None, state: str = "active") -> Report:
    return Report(CampaignKey("acme", "spring"), CampaignState(state), expected, counts)


def test_counts_are_read_from_the_hash() -> None:
    counts = read_counts(FIELDS)
    assert (counts.received, counts.parked, counts.outcomes) == (20, 2, 15)
    assert (counts.ended("sent"), counts.ended("skipped"), counts.ended("dead")) == (10, 4, 1)
    assert counts.in_flight == 20 - 15 - 1 - 2
    assert counts.reasons == {"duplicate": 1, "suppressed": 3, "rejected": 1, "invalid_event": 1}
    assert counts.per_second == 3.0


def test_the_report_has_exactly_these_fields() -> None:
    answer = report(read_counts(FIELDS), 30).as_json(NOW)
    assert answer == {
        "organization_id": "acme",
        "campaign_id": "spring",
        "state": "active",
        "expected": 30,
        "received": 20,
        "sent": 10,
        "skipped": 4,
        "failed": 1,
        "indeterminate": 0,
        "dead": 1,
        "parked": 2,
        "in_flight": 2,
        "reasons": {"duplicate": 1, "suppressed": 3, "rejected": 1, "invalid_event": 1},
        "started_at": "2026-11-24T03:40:00.000Z",
        "finished_at": None,
        "per_second": 3.0,
        "eta": "2026-11-24T04:00:04Z",
    }


def test_an_empty_report() -> None:
    answer = report(Counts(), None).as_json(NOW)
    assert (answer["in_flight"], answer["per_second"], answer["eta"]) == (0, None, None)


@pytest.mark.parametrize(
    ("received", "sent", "parked", "expected", "fulfilled"),
    [
        (5, 5, 0, 5, True),
        (6, 6, 0, 5, True),
        (0, 0, 0, 0, True),
        (5, 5, 0, None, False),
        (4, 4, 0, 5, False),
        (5, 4, 0, 5, False),
        (5, 4, 1, 5, False),
        (5, 5, -1, 5, False),
    ],
)
def test_complete_needs_all_expected_and_all_resolved(
    received: int, sent: int, parked: int, expected: int | None, fulfilled: bool
) -> None:
    counts = Counts(received, parked, {("sent", ""): sent})
    assert counts.fulfils(expected) is fulfilled


def test_late_records_make_a_campaign_incomplete() -> None:
    done = Counts(5, 0, {("sent", ""): 5}, FIELDS["first"], FIELDS["last"])
    assert report(done, 5, "completed").is_complete
    assert report(done, 5, "completed").as_json(NOW)["finished_at"] == FIELDS["last"]
    assert not report(done, 5).is_complete
    late = Counts(6, 0, {("sent", ""): 5})
    assert not report(late, 5, "completed").is_complete


def test_the_eta_follows_the_rate() -> None:
    running = report(read_counts(FIELDS), 46)
    assert running.eta(NOW) == NOW + timedelta(seconds=10)
    assert running.eta(NOW, 30.0) == NOW + timedelta(seconds=1)
    assert running.eta(NOW, 0.0) is None
    assert running.eta(NOW, 1e-300) is None
    assert report(read_counts(FIELDS), 46, "paused").eta(NOW) is None


def test_equal_counts_give_identical_summaries() -> None:
    one = report(read_counts(FIELDS), 5, "completed").summary()
    other = report(read_counts(dict(reversed(FIELDS.items()))), 5).summary()
    assert one == other
    assert orjson.loads(one)["total"] == 20
