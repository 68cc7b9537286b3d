"""Where in the parked topic the records that wait for the same thing are. No I/O."""

from array import array
from collections.abc import Collection, Iterable
from typing import NamedTuple

from streamer.flow.offsets import OffsetSpan
from streamer.model.record import Parked

SPAN = 1_000
"""Offsets that are noted, and read, as one span. Other records within it are read and skipped,
which is cheaper than seeking."""
SEEK = 250
"""A seek takes as long as reading this many records."""


class ReadPlan(NamedTuple):
    """Which offsets to read, and which records to take from them.

    Attributes:
        spans: the spans to read by partition, disjoint and in order.
        limits: by wait and partition, the offset before which all records with that wait are in the
            spans. Records at or after it must not be taken, or they would overtake others.
    """

    spans: dict[int, list[OffsetSpan]]
    limits: dict[tuple[Parked, int], int]


class Waitlist:
    """The spans that contain parked records, by what these wait for and by partition.

    Each span uses 16 bytes, however many records it contains.
    """

    def __init__(self) -> None:
        self._of: dict[Parked, dict[int, array[int]]] = {}

    @property
    def waits(self) -> Collection[Parked]:
        """Everything that records wait for."""
        return self._of.keys()

    def note(self, wait: Parked, partition: int, offset: int) -> None:
        """Note a waiting record. The records of a partition must be noted in offset order."""
        bounds = self._of.setdefault(wait, {}).setdefault(partition, array("q"))
        if bounds and offset < bounds[-2] + SPAN:
            bounds[-1] = offset + 1
        else:
            bounds.extend((offset, offset + 1))

    def take(self, waits: Collection[Parked], limit: int) -> ReadPlan:
        """Take the first records with the given waits, about equally many for each.

        Args:
            limit: the approximate number of offsets to read in total.
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
                self._of[wait] = rest  # moves to the end: it has had its turn
        return ReadPlan({partition: _merge(spans) for partition, spans in planned.items()}, limits)


def _first(bounds: "array[int]", most: int) -> list[OffsetSpan]:
    """Return the first spans whose total cost reaches `most`, or all of them."""
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
