"""The campaigns' metrics, and how many there may be."""

from collections.abc import Iterator

import pytest
from prometheus_client import REGISTRY

from streamer.model.campaign import CampaignName, CampaignState
from streamer.model.feedback import EVENT_WORDS
from streamer.model.progress import DEAD
from streamer.model.reasons import DeadReason, Reason
from streamer.progress.counts import Counts
from streamer.progress.gauges import Gauges
from streamer.progress.report import Report

SPRING = CampaignName("acme", "spring")
EVERY_RESULT = {
    ("sent", ""): 1,
    **{(reason.status.value, reason.value): 1 for reason in Reason},
    **{(DEAD, reason.value): 1 for reason in DeadReason},
}


@pytest.fixture
def gauges() -> Iterator[Gauges]:
    one = Gauges()
    yield one
    one.clear()


def a_report(name: CampaignName, resolutions: dict[tuple[str, str], int], **events: int) -> Report:
    counts = Counts(resolutions=resolutions)
    return Report(name, CampaignState.ACTIVE, 10, is_closed=False, counts=counts, events=events)


def shown() -> dict[tuple[str, ...], float]:
    """The values of the campaigns' series, by name and labels."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in REGISTRY.collect()
        for sample in family.samples
        if sample.name.startswith("streamer_campaign_")
    }


def test_a_campaign_is_shown(gauges: Gauges) -> None:
    gauges.show([a_report(SPRING, {("sent", ""): 2, ("failed", "rejected"): 1}, delivered=2), None])
    found = shown()
    assert found["streamer_campaign_recipients", *SPRING, "received"] == 3
    assert found["streamer_campaign_recipients", *SPRING, "skipped"] == 0
    assert found["streamer_campaign_outcomes", *SPRING, "sent", ""] == 2
    assert found["streamer_campaign_outcomes", *SPRING, "failed", "rejected"] == 1
    assert found["streamer_campaign_events", *SPRING, "delivered"] == 2
    assert found["streamer_campaign_expected", *SPRING] == 10


def test_what_a_rebuild_does_not_count_any_more_is_0(gauges: Gauges) -> None:
    gauges.show([a_report(SPRING, {("failed", "rejected"): 1}, delivered=2)])
    gauges.show([a_report(SPRING, {("sent", ""): 1})])
    found = shown()
    assert found["streamer_campaign_outcomes", *SPRING, "failed", "rejected"] == 0
    assert found["streamer_campaign_outcomes", *SPRING, "sent", ""] == 1
    assert found["streamer_campaign_events", *SPRING, "delivered"] == 0


def test_however_many_campaigns_there_are_the_series_are_bounded(gauges: Gauges) -> None:
    """At every moment, since a scrape may come at any."""
    most = 0

    def thousands() -> Iterator[Report]:
        nonlocal most
        for number in range(2_000):
            if number % 400 == 399:
                most = max(most, len(shown()))
            name = CampaignName("acme", f"c-{number}")
            yield a_report(name, EVERY_RESULT, **dict.fromkeys(EVENT_WORDS, 1))

    gauges.show(thousands())
    assert most <= 200 * 40
    assert ("streamer_campaign_expected", "acme", "c-1999") in shown()
    assert ("streamer_campaign_expected", "acme", "c-0") not in shown()
    gauges.clear()
    assert shown() == {}
