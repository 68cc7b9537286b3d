"""Counts, and the reports derived from them."""

from datetime import UTC, datetime, timedelta

import orjson
import pytest

from streamer.model.campaign import CampaignName, CampaignState
from streamer.model.feedback import EVENT_WORDS
from streamer.progress.counts import Counts, read_counts
from streamer.progress.report import Report

FIELDS = {
    "generation": "5",
    "at:t:0": "17",
    "parked": "2",
    "sent": "10",
    "skipped:suppressed": "3",
    "skipped:duplicate": "1",
    "failed:rejected": "1",
    "dead:invalid_event": "1",
    "first": "2026-11-24T03:40:00.000Z",
    "last": "2026-11-24T03:40:05.000Z",
}
NOW = datetime(2026, 11, 24, 4, 0, tzinfo=UTC)


def report(counts: Counts, expected: int | None, state: str = "active") -> Report:
    name = CampaignName("acme", "spring")
    return Report(name, CampaignState(state), expected, False, counts)


def test_counts_are_read_from_the_hash() -> None:
    counts = read_counts(FIELDS)
    assert (counts.received, counts.parked, counts.outcomes) == (18, 2, 15)
    assert (counts.ended("sent"), counts.ended("skipped"), counts.ended("dead")) == (10, 4, 1)
    assert counts.reasons == {"duplicate": 1, "suppressed": 3, "rejected": 1, "invalid_event": 1}
    assert counts.per_second == 3.0


def test_the_report_has_exactly_these_fields() -> None:
    answer = report(read_counts(FIELDS), 30).as_json(NOW)
    assert answer == {
        "organization_id": "acme",
        "campaign_id": "spring",
        "state": "active",
        "expected": 30,
        "closed": False,
        "received": 18,
        "sent": 10,
        "skipped": 4,
        "failed": 1,
        "indeterminate": 0,
        "dead": 1,
        "parked": 2,
        "reasons": {"duplicate": 1, "suppressed": 3, "rejected": 1, "invalid_event": 1},
        "events": dict.fromkeys(EVENT_WORDS, 0),
        "started_at": "2026-11-24T03:40:00.000Z",
        "finished_at": None,
        "per_second": 3.0,
        "eta": "2026-11-24T04:00:04Z",
    }


def test_an_empty_report() -> None:
    answer = report(Counts(), None).as_json(NOW)
    assert (answer["received"], answer["per_second"], answer["eta"]) == (0, None, None)


def test_more_ends_of_parked_records_than_parkings_are_no_debt() -> None:
    """After a rebuild, when retention has deleted that they were parked."""
    assert read_counts({"parked": "-3", "sent": "5"}).received == 5


@pytest.mark.parametrize(
    ("sent", "parked", "expected", "is_reached"),
    [(5, 0, 5, True), (6, 0, 5, True), (3, 2, 5, True), (0, 0, 0, True), (5, 0, None, False)],
)
def test_as_many_as_expected(
    sent: int, parked: int, expected: int | None, is_reached: bool
) -> None:
    counts = Counts(parked, {("sent", ""): sent})
    assert report(counts, expected).is_expected_reached is is_reached
    assert report(counts, sent + parked + 1).is_expected_reached is False


def test_parked_records_make_a_campaign_incomplete() -> None:
    done = Counts(0, {("sent", ""): 5}, FIELDS["first"], FIELDS["last"])
    assert report(done, 5, "completed").is_complete
    assert report(done, 5, "completed").as_json(NOW)["finished_at"] == FIELDS["last"]
    assert not report(done, 5).is_complete
    late = Counts(1, {("sent", ""): 5})
    assert not report(late, 5, "completed").is_complete


def test_the_total_is_unknown_until_it_is_said_or_over() -> None:
    done = Counts(2, {("sent", ""): 5})
    assert report(done, None).total is None
    assert report(done, 10).total == 10
    assert report(done, 3).total == 7
    assert report(done, None, "completed").total == 7
    assert report(read_counts(FIELDS), None).eta(NOW) is None


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
    assert orjson.loads(one)["total"] == 18
