"""Names and counts the resolutions of records, for metrics and logs."""

from collections import Counter
from collections.abc import Sequence
from operator import attrgetter

from streamer import metrics
from streamer.model.record import DeadLetter, Outcome, Parked, Record

KINDS = {Outcome: "outcome", DeadLetter: "dead_letter", Parked: "parked"}

_status_and_reason = attrgetter("status", "reason")


def count_endings(records: Sequence[Record]) -> None:
    """Add the resolutions of committed records to the metrics."""
    resolutions = [record.resolution for record in records]
    outcomes = [each for each in resolutions if isinstance(each, Outcome)]
    # In C, as nearly all are outcomes, and of those nearly all alike.
    for (status, reason), count in Counter(map(_status_and_reason, outcomes)).items():
        metrics.OUTCOMES.labels(status, reason or "").inc(count)
    for resolution in resolutions if len(outcomes) < len(resolutions) else ():
        if isinstance(resolution, DeadLetter):
            metrics.DEAD_LETTERS.labels(resolution.reason).inc()
        elif isinstance(resolution, Parked):
            metrics.PARKED.labels(resolution.scope.kind).inc()
