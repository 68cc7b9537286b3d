"""Quantiles of a worker's histograms, as Prometheus' `histogram_quantile` finds them."""

from collections.abc import Iterable

import urllib3
from prometheus_client.parser import text_string_to_metric_families

Buckets = list[tuple[float, float]]
"""Upper bounds and how many observations are not above them, in order."""


def quantile(buckets: Buckets, share: float) -> float | None:
    """The value that `share` of the observations do not exceed; None without observations.

    Within a bucket they are taken to be evenly spread, and what is above the last finite bound
    is given as that bound.
    """
    if not buckets or buckets[-1][1] == 0:
        return None
    rank = share * buckets[-1][1]
    lower = below = 0.0
    for upper, count in buckets:
        if count >= rank and count > below:
            if upper == float("inf"):
                return lower
            return lower + (upper - lower) * (rank - below) / (count - below)
        lower, below = upper, count
    return lower


def read_histograms(url: str, names: Iterable[str]) -> dict[str, Buckets]:
    """The buckets of histograms without labels, from a worker's `/metrics`."""
    text = urllib3.request("GET", url, retries=False, timeout=10.0).data.decode()
    wanted = set(names)
    found: dict[str, Buckets] = {name: [] for name in wanted}
    for family in text_string_to_metric_families(text):
        if family.name not in wanted:
            continue
        for sample in family.samples:
            if sample.name.endswith("_bucket"):
                found[family.name].append((float(sample.labels["le"]), sample.value))
    return found
