"""Metrics for the campaigns that changed most recently."""

from collections import OrderedDict
from collections.abc import Iterable, Iterator

from prometheus_client import Gauge

from streamer import metrics
from streamer.model.campaign import CampaignName
from streamer.progress.counts import STATUSES
from streamer.progress.report import Report

_MAX_CAMPAIGNS = 200
"""More would make a scrape of the process take more than 0.1 s, of the CPU that sends."""

_Series = tuple[Gauge, tuple[str, ...]]
"""A gauge, and its labels after those of the campaign."""


class Gauges:
    """Exports campaign counts, of a limited number of campaigns since each has up to 40 series."""

    def __init__(self) -> None:
        self._shown: OrderedDict[CampaignName, set[_Series]] = OrderedDict()

    def show(self, reports: Iterable[Report | None]) -> None:
        """Set the gauges of these campaigns."""
        for report in reports:
            if report is None:
                continue
            values = dict(_values(report))
            # What has no count any more: counts that were rebuilt begin again.
            for series in self._shown.pop(report.name, set()) - values.keys():
                values[series] = 0
            for (gauge, labels), value in values.items():
                gauge.labels(*report.name, *labels).set(value)
            self._shown[report.name] = set(values)
            if len(self._shown) > _MAX_CAMPAIGNS:
                _remove(*self._shown.popitem(last=False))

    def clear(self) -> None:
        """Remove all gauges; another process exports them now."""
        while self._shown:
            _remove(*self._shown.popitem())


def _values(report: Report) -> Iterator[tuple[_Series, int]]:
    counts = report.counts
    yield (metrics.CAMPAIGN_RECIPIENTS, ("received",)), counts.received
    yield (metrics.CAMPAIGN_RECIPIENTS, ("parked",)), counts.parked
    for status in STATUSES:
        yield (metrics.CAMPAIGN_RECIPIENTS, (status,)), counts.ended(status)
    for status_and_reason, count in counts.resolutions.items():
        yield (metrics.CAMPAIGN_OUTCOMES, status_and_reason), count
    for word, recipients in report.events.items():
        yield (metrics.CAMPAIGN_EVENTS, (word,)), recipients
    if report.expected is not None:
        yield (metrics.CAMPAIGN_EXPECTED, ()), report.expected


def _remove(name: CampaignName, shown: Iterable[_Series]) -> None:
    for gauge, labels in shown:
        gauge.remove(*name, *labels)
