"""The sum of progress records, by campaign."""

import pytest

from streamer.model.campaign import CampaignName
from streamer.progress.fold import fold
from tests.unit.progress.records import FakeRecord, progress

SPRING, AUTUMN = CampaignName("acme", "spring"), CampaignName("acme", "autumn")


def test_records_are_added_up_by_campaign() -> None:
    shares = fold(
        [
            progress(3, {"sent": 9, "skipped:suppressed": 1, "parked": 4}, second=5),
            progress(4, {"dead:invalid_event": 2}),
            progress(6, {"failed:rejected": 7}, "autumn"),
            progress(7, {"sent": 3, "parked": -5}, second=2),
            progress(9, {"sent": 1}, second=9),
        ]
    )
    assert shares.keys() == {SPRING, AUTUMN}
    spring = shares[SPRING]
    assert spring.delta.counts == {
        "sent": 13,
        "skipped:suppressed": 1,
        "dead:invalid_event": 2,
        "parked": -1,
    }
    assert (spring.start, spring.end) == (3, 10)
    assert (spring.delta.first or "")[17:19] == "02"
    assert (spring.delta.last or "")[17:19] == "09"
    assert (shares[AUTUMN].start, shares[AUTUMN].end) == (6, 7)
    assert shares[AUTUMN].delta.first is None


@pytest.mark.parametrize(
    "record",
    [
        FakeRecord(0, None),
        FakeRecord(0, b"no json"),
        FakeRecord(0, b"[]"),
        progress(0, organization_id=["acme"]),
        progress(0, campaign_id="with blank"),
        progress(0, campaign_id="x" * 129),
        progress(0, first="2026-11-24"),
        progress(0, last=5),
        progress(0, {"sent": 1}, first="2026-11-24T03:40:00.123+01:00"),
    ],
)
def test_what_streamer_did_not_write_is_not_counted(record: FakeRecord) -> None:
    assert fold([record]) == {}


def test_unknown_words_are_not_counted() -> None:
    """They could be fields of the same hash, or come from a later version."""
    words = {"generation": 5, "at:t:0": 7, "first": 1, "delivered": 2, "skipped:later": 3}
    (share,) = fold([progress(0, words)]).values()
    assert share.delta.counts == {"skipped:later": 3}
