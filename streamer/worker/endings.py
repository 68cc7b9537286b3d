"""The endings of records, as the metrics and the log name and count them."""

from collections import Counter
from collections.abc import Iterable

from prometheus_client import Counter as PrometheusCounter

from streamer import metrics
from streamer.model.record import DeadLetter, Ending, Outcome, Parked, Record

KINDS = {Outcome: "outcome", DeadLetter: "dead_letter", Parked: "parked"}


def count_endings(records: Iterable[Record]) -> None:
    """Add committed endings to the metrics."""
    for counter, count in Counter(_counter(record.ending) for record in records).items():
        if counter is not None:
            metric, *labels = counter
            metric.labels(*labels).inc(count)


def _counter(ending: Ending | None) -> tuple[PrometheusCounter, *tuple[str, ...]] | None:
    if isinstance(ending, Outcome):
        return metrics.OUTCOMES, ending.status, ending.reason or ""
    if isinstance(ending, DeadLetter):
        return metrics.DEAD_LETTERS, ending.reason
    if isinstance(ending, Parked):
        return metrics.PARKED, ending.scope.kind
    return None
