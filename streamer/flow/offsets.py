"""Tracks which records of a partition of the parked topic have left it. No I/O.

Records leave in any order, so besides a base offset, before which all have left, there are spans of
offsets after it. These are stored in the metadata of the relay's committed offset. They are exact,
because the offset is committed together with the records that replace those that left.
"""

import base64
import zlib
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from typing import NamedTuple, Self

_FORM = "1:"
"""The prefix of the encoded text: the version of its format."""


class OffsetSpan(NamedTuple):
    """The offsets from `start` (inclusive) to `end` (exclusive)."""

    start: int
    end: int


class OffsetSet:
    """The offsets of a partition whose records have left, or that never had a record.

    Attributes:
        base: all records before this offset have left.
    """

    def __init__(self, base: int = 0, spans: Iterable[OffsetSpan] = ()) -> None:
        self.base = base
        self._starts: list[int] = []
        self._ends: list[int] = []
        for span in spans:
            self.add(*span)

    def add(self, start: int, end: int) -> None:
        """Add the offsets from `start` (inclusive) to `end` (exclusive)."""
        first = bisect_left(self._ends, start)
        last = bisect_right(self._starts, end)
        if first < last:
            start, end = min(start, self._starts[first]), max(end, self._ends[last - 1])
        if start > self.base:
            self._starts[first:last] = [start]
            self._ends[first:last] = [end]
            return
        self.base = max(self.base, end)
        behind = bisect_right(self._starts, self.base)
        if behind:
            self.base = max(self.base, self._ends[behind - 1])
            del self._starts[:behind], self._ends[:behind]

    def drop_before(self, offset: int) -> None:
        """Drop the spans that end at or before the offset, which are no longer needed."""
        behind = bisect_right(self._ends, offset)
        del self._starts[:behind], self._ends[:behind]

    def __contains__(self, offset: int) -> bool:
        return offset < self.base or self.span_of(offset) is not None

    def span_of(self, offset: int) -> OffsetSpan | None:
        """Return the span after the base that contains an offset; None if there is none."""
        at = bisect_right(self._starts, offset) - 1
        if at < 0 or offset >= self._ends[at]:
            return None
        return OffsetSpan(self._starts[at], self._ends[at])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OffsetSet) and (self.base, self.spans) == (other.base, other.spans)

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __repr__(self) -> str:
        return f"OffsetSet({self.base}, {self.spans})"

    @property
    def spans(self) -> list[OffsetSpan]:
        """The spans after the base, disjoint and in order."""
        return [*map(OffsetSpan, self._starts, self._ends)]

    @property
    def scattered(self) -> int:
        """The number of offsets in the spans after the base."""
        return sum(self._ends) - sum(self._starts)

    def copy(self) -> Self:
        """Return an independent copy."""
        new = type(self)(self.base)
        new._starts, new._ends = self._starts.copy(), self._ends.copy()
        return new

    def union(self, other: "OffsetSet") -> Self:
        """Return the offsets that are in either set."""
        new = self.copy()
        new.add(0, other.base)
        for span in other.spans:
            new.add(*span)
        return new

    def encode(self) -> str:
        """Encode the spans after the base as offset metadata; empty if there are none."""
        if not self._starts:
            return ""
        packed = zlib.compress(b"".join(map(_pack, self._steps())), 9)
        return _FORM + base64.b85encode(packed).decode()

    @classmethod
    def decode(cls, base: int, text: str | None) -> Self:
        """Decode text written by `encode`; the client library may return None for empty metadata.

        Raises:
            ValueError: the text was not written by `encode`.
        """
        gone = cls(base)
        if not text:
            return gone
        if not text.startswith(_FORM):
            raise ValueError(f"invalid offset set {text[:20]!r}")
        try:
            steps = _unpack(zlib.decompress(base64.b85decode(text.removeprefix(_FORM))))
            at = base
            for between, length in zip(steps, steps, strict=True):
                gone._starts.append(at + between)
                at += between + length
                gone._ends.append(at)
        except zlib.error as error:
            raise ValueError(f"invalid offset set: {error}") from None
        return gone

    def _steps(self) -> Iterator[int]:
        """Yield the distance to each span and its length, alternately."""
        at = self.base
        for start, end in zip(self._starts, self._ends, strict=True):
            yield start - at
            yield end - start
            at = end


def _pack(number: int) -> bytes:
    """Encode as LEB128: 7 bits per byte, lowest first; the last byte has its high bit clear."""
    packed = bytearray()
    while number > 0x7F:
        packed.append(number & 0x7F | 0x80)
        number >>= 7
    packed.append(number)
    return bytes(packed)


def _unpack(packed: bytes) -> Iterator[int]:
    number = shift = 0
    for byte in packed:
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            yield number
            number = shift = 0
