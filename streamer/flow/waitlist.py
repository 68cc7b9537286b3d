"""Where in the parked topic stand the records that wait for the same. Pure."""

from array import array
from collections.abc import Collection, Iterable
from typing import NamedTuple

from streamer.flow.offsets import OffsetSpan
from streamer.model.record import Parked

SPAN = 1_000
"""Offsets that are noted, and read, as one span: whoever stands between is passed over, which is
cheaper than to seek."""
SEEK = 250
"""To seek takes as long as to read so many."""


class ReadPlan(NamedTuple):
    """Where to read, and whom to take there.

    Attributes:
        spans: by partition; apart from each other, in their order.
        limits: by what they wait for, and partition: the offset before which all of them are in
            the spans. Who stands behind it has to wait, or would overtake others.
    """

    spans: dict[int, list[OffsetSpan]]
    limits: dict[tuple[Parked, int], int]


class Waitlist:
    """The spans in which records stand, by what they wait for and partition.

    It takes 16 bytes for a span, however many records are in it.
    """

    def __init__(self) -> None:
        self._of: dict[Parked, dict[int, array[int]]] = {}

    @property
    def waits(self) -> Collection[Parked]:
        """What is waited for."""
        return self._of.keys()

    def note(self, wait: Parked, partition: int, offset: int) -> None:
        """A record waits at an offset. The records of a partition are noted in their order."""
        bounds = self._of.setdefault(wait, {}).setdefault(partition, array("q"))
        if bounds and offset < bounds[-2] + SPAN:
            bounds[-1] = offset + 1
        else:
            bounds.extend((offset, offset + 1))

    def take(self, waits: Collection[Parked], limit: int) -> ReadPlan:
        """Take the first records that wait for these, of each about as many.

        Args:
            limit: how many offsets are read for all of them, about.
        """
        planned: dict[int, list[OffsetSpan]] = {}
        limits: dict[tuple[Parked, int], int] = {}
        quota, left = max(1, limit // max(1, len(waits))), limit
        for wait in [wait for wait in self._of if wait in waits]:
            if left <= 0:
                break
            of_wait = self._of.pop(wait)
            for partition, bounds in of_wait.items():
                spans = _first(bounds, max(1, quota // len(of_wait)))
                del bounds[: 2 * len(spans)]
                planned.setdefault(partition, []).extend(spans)
                limits[wait, partition] = spans[-1].end
                left -= sum(map(_cost, spans))
            if rest := {partition: bounds for partition, bounds in of_wait.items() if bounds}:
                self._of[wait] = rest  # behind all others: it has had its turn
        return ReadPlan({partition: _merge(spans) for partition, spans in planned.items()}, limits)


def _first(bounds: "array[int]", most: int) -> list[OffsetSpan]:
    """The first spans, that together cost `most` or a little more."""
    spans: list[OffsetSpan] = []
    for at in range(0, len(bounds), 2):
        spans.append(OffsetSpan(bounds[at], bounds[at + 1]))
        most -= _cost(spans[-1])
        if most <= 0:
            break
    return spans


def _cost(span: OffsetSpan) -> int:
    return max(SEEK, span.end - span.start)


def _merge(spans: Iterable[OffsetSpan]) -> list[OffsetSpan]:
    merged: list[OffsetSpan] = []
    for span in sorted(spans):
        if merged and span.start <= merged[-1].end + SEEK:
            merged[-1] = OffsetSpan(merged[-1].start, max(merged[-1].end, span.end))
        else:
            merged.append(span)
    return merged
