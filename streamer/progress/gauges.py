"""Metrics for the campaigns that changed most recently."""

from collections import OrderedDict
from collections.abc import Iterable
from contextlib import suppress

from streamer import metrics
from streamer.model.campaign import CampaignName
from streamer.model.feedback import EVENT_WORDS
from streamer.progress.counts import STATUSES
from streamer.progress.report import Report

_MAX_CAMPAIGNS = 500


class Gauges:
    """Exports campaign counts, limited in number since each campaign has up to 18 series."""

    def __init__(self) -> None:
        self._shown: OrderedDict[CampaignName, None] = OrderedDict()

    def show(self, reports: Iterable[Report | None]) -> None:
        """Set the gauges of these campaigns."""
        for report in reports:
            if report is None:
                continue
            self._shown[report.name] = None
            self._shown.move_to_end(report.name)
            for status, value in _values(report).items():
                metrics.CAMPAIGN_RECIPIENTS.labels(*report.name, status).set(value)
            for word in EVENT_WORDS:
                if number := report.events.get(word):
                    metrics.CAMPAIGN_EVENTS.labels(*report.name, word).set(number)
            if report.expected is not None:
                metrics.CAMPAIGN_EXPECTED.labels(*report.name).set(report.expected)
        while len(self._shown) > _MAX_CAMPAIGNS:
            _remove(self._shown.popitem(last=False)[0])

    def clear(self) -> None:
        """Remove all gauges; another process exports them now."""
        for name in self._shown:
            _remove(name)
        self._shown.clear()


def _values(report: Report) -> dict[str, int]:
    counts = report.counts
    return {
        "received": counts.received,
        **{status: counts.ended(status) for status in STATUSES},
        "parked": counts.parked,
    }


def _remove(name: CampaignName) -> None:
    for status in ("received", *STATUSES, "parked"):
        with suppress(KeyError):
            metrics.CAMPAIGN_RECIPIENTS.remove(*name, status)
    for word in EVENT_WORDS:
        with suppress(KeyError):
            metrics.CAMPAIGN_EVENTS.remove(*name, word)
    with suppress(KeyError):
        metrics.CAMPAIGN_EXPECTED.remove(*name)
