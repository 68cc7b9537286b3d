"""Which records of the parked topic have left each of its partitions. No I/O."""

from collections.abc import Collection, Iterable, Mapping

from streamer.flow.offsets import OffsetSet

Place = tuple[int, int]
"""A partition and an offset."""


class Departures:
    """The records that have left, as far as they are committed.

    A gap between records, where transaction markers are, has left with the record behind it.
    Otherwise each gap would be a boundary between two spans, and take room in the metadata.
    """

    def __init__(self) -> None:
        self._gone: dict[int, OffsetSet] = {}
        self._gaps: dict[int, OffsetSet] = {}

    @property
    def partitions(self) -> Collection[int]:
        """The known partitions."""
        return self._gone.keys()

    def add_partitions(self, gone: Mapping[int, OffsetSet]) -> None:
        """Add partitions, of which these records have left."""
        self._gone |= gone
        self._gaps |= {partition: OffsetSet() for partition in gone}

    def note_gap(self, partition: int, start: int, end: int) -> None:
        """Note that no record is between these offsets."""
        self._gaps[partition].add(start, end)

    def __contains__(self, place: Place) -> bool:
        partition, offset = place
        return offset in self._gone[partition]

    def base_of(self, partition: int) -> int:
        """Return the offset before which all records have left."""
        return self._gone[partition].base

    def bases(self) -> dict[int, int]:
        """Return the base of each partition."""
        return {partition: gone.base for partition, gone in self._gone.items()}

    def known(self) -> dict[int, OffsetSet]:
        """Return what has left, of partitions that anything has left."""
        return {p: gone for p, gone in self._gone.items() if gone != OffsetSet()}

    def lacks(self, gone: Mapping[int, OffsetSet]) -> bool:
        """Return whether more records have left than is known here."""
        return any(self._gone[p].union(each) != self._gone[p] for p, each in gone.items())

    def skip(self, place: Place) -> None:
        """Let a record leave that stays where it is, with the next commit of its partition."""
        self._leave(self._gone[place[0]], place)

    def after(self, places: Iterable[Place]) -> dict[int, OffsetSet]:
        """Return what will have left the records' partitions once these records have."""
        gone: dict[int, OffsetSet] = {}
        for place in places:
            partition = place[0]
            if partition not in gone:
                gone[partition] = self._gone[partition].copy()
            self._leave(gone[partition], place)
        return gone

    def crowded_after(self, places: Iterable[Place], max_text: int) -> list[int]:
        """Return the partitions whose encoded text would be longer than that once these records
        have left."""
        return [p for p, gone in self.after(places).items() if len(gone.encode()) > max_text]

    def is_wasteful(self, partition: int, end: int, max_waste: int) -> bool:
        """Return whether most of what is read from the base to the end has left.

        Args:
            max_waste: how many offsets may be read in vain in any case.
        """
        gone = self._gone[partition]
        others = end - gone.base - gone.scattered
        return gone.scattered > max(max_waste, 2 * others)

    def commit(self, gone: Mapping[int, OffsetSet]) -> None:
        """Note what was committed, as `after` returned it."""
        self._gone |= gone
        for partition, each in gone.items():
            self._gaps[partition].drop_before(each.base)

    def gaps_of(self, partition: int) -> OffsetSet:
        """Return the gaps that are still needed."""
        return self._gaps[partition]

    def _leave(self, gone: OffsetSet, place: Place) -> None:
        partition, offset = place
        gone.add(offset, offset + 1)
        before = self._gaps[partition].span_of(offset - 1)
        if before is not None:
            gone.add(*before)
