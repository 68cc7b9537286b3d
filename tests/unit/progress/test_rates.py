"""Current rates of campaigns."""

from streamer.model.campaign import CampaignName, CampaignState
from streamer.progress.counts import Counts
from streamer.progress.rates import Rates
from streamer.progress.report import Report


def report(sent: int) -> Report:
    counts = Counts(resolutions={("sent", ""): sent})
    return Report(CampaignName("acme", "spring"), CampaignState.ACTIVE, None, False, counts)


def test_the_rate_covers_the_last_seconds() -> None:
    rates = Rates()
    assert rates.of(report(0), 0.0) == 0.0
    assert rates.of(report(100), 10.0) == 10.0
    assert rates.of(report(100), 40.0) == 0.0
    assert rates.of(report(50), 41.0) == 0.0  # after a recount


def test_the_rate_is_whole_from_the_start() -> None:
    rates = Rates()
    for second in range(5):
        assert rates.of(report(0), second) == 0.0
    assert rates.of(report(100), 5.0) == 100.0
    assert rates.of(report(200), 6.0) == 100.0
