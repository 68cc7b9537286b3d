"""Reading a histogram from a worker's metrics, as Prometheus does."""

import math
from collections import Counter

from prometheus_client.parser import text_string_to_metric_families

Buckets = Counter[float]
"""Cumulative counts by upper bound."""


def parse(exposition: str, histogram: str) -> tuple[float, Buckets]:
    """Return the start time of the process and the buckets of one of its histograms.

    The time is 0.0 on platforms that do not report it.
    """
    began = 0.0
    buckets: Buckets = Counter()
    for family in text_string_to_metric_families(exposition):
        for sample in family.samples:
            if sample.name == "process_start_time_seconds":
                began = sample.value
            elif sample.name == f"{histogram}_bucket":
                buckets[float(sample.labels["le"])] += int(sample.value)
    return began, buckets


def quantile(buckets: Buckets, share: float) -> float:
    """Return a quantile in the histogram's unit; 0.0 if nothing was observed.

    Interpolates linearly within a bucket. Values above the last bound count as that bound.
    """
    rank = share * max(buckets.values(), default=0)
    below, lower = 0, 0.0
    for bound, count in sorted(buckets.items()):
        if count >= rank and count > below:
            if math.isinf(bound):
                return lower
            return lower + (bound - lower) * (rank - below) / (count - below)
        below, lower = count, bound
    return 0.0
