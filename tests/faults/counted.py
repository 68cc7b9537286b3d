"""Checks that reported progress counts match the topics."""

import time
from collections import Counter
from collections.abc import Callable, Iterable

from streamer.model.campaign import CampaignName
from streamer.model.event import DeadEventError, parse
from streamer.model.reasons import Status
from streamer.progress.report import Report
from tests.kit.exactly_once import Input, ResolvedRecord

_LOOK_EVERY_S = 0.2


def await_counts(
    report: Callable[[CampaignName], Report | None],
    inputs: Iterable[Input],
    resolutions: Iterable[ResolvedRecord],
    seconds: float,
) -> None:
    """Wait until each campaign's counts match its records.

    Raises:
        AssertionError: they still differ after `seconds`.
    """
    received: Counter[CampaignName] = Counter()
    for record in inputs:
        try:
            event = parse(record.value)
        except DeadEventError:
            continue
        received[CampaignName(event.organization_id, event.campaign_id)] += 1
    ended: dict[CampaignName, Counter[tuple[str, str | None]]] = {
        key: Counter() for key in received
    }
    for resolution in resolutions:
        key = CampaignName(resolution.organization, resolution.campaign)
        if key in ended:
            ended[key][resolution.status, resolution.reason] += 1
    deadline = time.monotonic() + seconds
    while wrong := [
        words
        for key, count in received.items()
        if (words := _wrong(report(key), count, ended[key])) is not None
    ]:
        assert time.monotonic() < deadline, "counts: " + "; ".join(wrong[:3])
        time.sleep(_LOOK_EVERY_S)


def _wrong(
    report: Report | None, received: int, ended: Counter[tuple[str, str | None]]
) -> str | None:
    if report is None:
        return f"of {received} records none is counted"
    counts = report.counts
    found = {
        "received": counts.received,
        "parked": counts.parked,
        **{status.value: counts.ended(status) for status in Status},
        **{
            f"{w} {reason}": counts.resolutions.get((w, reason), 0) for w, reason in ended if reason
        },
    }
    wanted = {
        "received": received,
        "parked": 0,
        **{s.value: sum(n for (word, _), n in ended.items() if word == s) for s in Status},
        **{f"{word} {reason}": n for (word, reason), n in ended.items() if reason},
    }
    return None if found == wanted else f"{report.name}: shown {found}, should be {wanted}"
