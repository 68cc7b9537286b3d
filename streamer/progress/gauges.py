"""Metrics for the campaigns that changed most recently."""

from collections import OrderedDict
from collections.abc import Iterable
from contextlib import suppress

from streamer import metrics
from streamer.model.reasons import Status
from streamer.progress.counts import DEAD
from streamer.progress.fold import CampaignKey
from streamer.progress.report import Report

_MAX_CAMPAIGNS = 500


class Gauges:
    """Exports campaign counts, limited in number since each campaign has ten series."""

    def __init__(self) -> None:
        self._shown: OrderedDict[CampaignKey, None] = OrderedDict()

    def show(self, reports: Iterable[Report | None]) -> None:
        """Set the gauges of these campaigns."""
        for report in reports:
            if report is None:
                continue
            self._shown[report.key] = None
            self._shown.move_to_end(report.key)
            for status, value in _values(report).items():
                metrics.CAMPAIGN_RECIPIENTS.labels(*report.key, status).set(value)
            if report.expected is not None:
                metrics.CAMPAIGN_EXPECTED.labels(*report.key).set(report.expected)
        while len(self._shown) > _MAX_CAMPAIGNS:
            _remove(self._shown.popitem(last=False)[0])

    def clear(self) -> None:
        """Remove all gauges; another process exports them now."""
        for key in self._shown:
            _remove(key)
        self._shown.clear()


def _values(report: Report) -> dict[str, int]:
    counts = report.counts
    return {
        "received": counts.received,
        **{status.value: counts.ended(status) for status in Status},
        DEAD: counts.ended(DEAD),
        "parked": counts.parked,
        "in_flight": counts.in_flight,
    }


def _remove(key: CampaignKey) -> None:
    for status in ("received", *Status, DEAD, "parked", "in_flight"):
        with suppress(KeyError):
            metrics.CAMPAIGN_RECIPIENTS.remove(*key, status)
    with suppress(KeyError):
        metrics.CAMPAIGN_EXPECTED.remove(*key)
