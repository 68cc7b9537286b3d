"""Names and counts the resolutions of records, for metrics and logs."""

from collections import Counter
from collections.abc import Iterable

from prometheus_client import Counter as PrometheusCounter

from streamer import metrics
from streamer.model.record import DeadLetter, Outcome, Parked, Record, Resolution

KINDS = {Outcome: "outcome", DeadLetter: "dead_letter", Parked: "parked"}


def count_endings(records: Iterable[Record]) -> None:
    """Add the resolutions of committed records to the metrics."""
    for counter, count in Counter(_counter(record.resolution) for record in records).items():
        if counter is not None:
            metric, *labels = counter
            metric.labels(*labels).inc(count)


def _counter(resolution: Resolution | None) -> tuple[PrometheusCounter, *tuple[str, ...]] | None:
    if isinstance(resolution, Outcome):
        return metrics.OUTCOMES, resolution.status, resolution.reason or ""
    if isinstance(resolution, DeadLetter):
        return metrics.DEAD_LETTERS, resolution.reason
    if isinstance(resolution, Parked):
        return metrics.PARKED, resolution.scope.kind
    return None
