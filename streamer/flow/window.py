"""The window of a partition: the records admitted but not yet committed."""

from collections import deque
from collections.abc import Iterator
from itertools import islice, takewhile
from operator import attrgetter

from streamer.model.record import Record

Partition = tuple[str, int]
"""A topic and a partition number."""

_MIN_AHEAD = 50
_resolution = attrgetter("resolution")
"""A record's resolution, which is true, or None."""


class PartitionWindow:
    """The records of one partition between the committed offset and the last admitted one.

    A window lasts for one assignment of the partition. Records decided after it was dropped have no
    effect: the new owner of the partition reads its own copies.

    Args:
        start: the first offset.
        is_marked: whether `start` is committed with the ledger's epoch in its metadata. If not, it
            must be committed before any record is admitted.
        reach: the offset from which on no record may be admitted yet, as it is committed beside
            `start`; None for no limit.
    """

    def __init__(self, start: int, *, is_marked: bool, reach: int | None = None) -> None:
        self._records: deque[Record] = deque()
        self._next = start
        self._bytes = 0
        self._freed: deque[int] = deque()
        self._note_freed = self._freed.append  # thread-safe: any thread may decide a record
        self._committed = start if is_marked else None
        self._set_reach(reach)

    def __len__(self) -> int:
        return len(self._records)

    @property
    def position(self) -> int:
        """The offset to commit while no record of the window is done."""
        return self.position_after(0)

    @property
    def is_marked(self) -> bool:
        """Whether an offset of the partition is committed with the ledger's epoch."""
        return self._committed is not None

    @property
    def committed_offset(self) -> int | None:
        """The offset committed with the ledger's epoch; None if there is none yet."""
        return self._committed

    @property
    def is_behind(self) -> bool:
        """Whether the offset must be committed even if no record is done.

        Either no offset is marked yet; or the position comes close to the reach; or the window is
        empty, and between the committed offset and the position there are no records, only the
        marker of a transaction that wrote to the partition. If not committed, the marker would
        look like a record that is never read.
        """
        return (
            self._committed is None
            or (self._next_reach_from is not None and self._next >= self._next_reach_from)
            or (not self._records and self._committed != self._next)
        )

    def position_after(self, count: int) -> int:
        """Return the offset to commit when the first `count` records are done."""
        return self._records[count].offset if count < len(self._records) else self._next

    @property
    def bytes(self) -> int:
        """The approximate memory used by the records."""
        while self._freed:
            self._bytes -= self._freed.popleft()
        return self._bytes

    def may_admit(self, offset: int) -> bool:
        """Whether a record at this offset is within the committed reach."""
        return self._reach is None or offset < self._reach

    @property
    def next_reach(self) -> int:
        """The reach to commit: ahead of the admitted records by twice as many as were admitted
        since the last one, so that commits need not be more frequent. Not more, as all records
        within it count as in flight if the ledger is lost. It never shrinks: an earlier owner may
        have admitted more."""
        ahead = max(_MIN_AHEAD, 2 * (self._next - self._next_at_reach))
        return max(self._reach or 0, self._next + ahead)

    def admit(self, record: Record) -> bool:
        """Admit a record; return False if it was admitted or committed before."""
        offset = record.offset
        if offset < self._next:
            return False
        self._records.append(record)
        self._next = offset + 1
        self._bytes += record.size
        record.on_freed = self._note_freed
        return True

    def pass_to(self, offset: int) -> None:
        """Advance to an offset before which all records have been admitted."""
        self._next = max(self._next, offset)

    def done_prefix(self, limit: int) -> list[Record]:
        """Return the leading decided records of the window, at most `limit`.

        It stops at the first undecided record, so that no offset is committed past one.
        """
        return [*islice(takewhile(_resolution, self._records), limit)]

    def committed(self, count: int, offset: int, reach: int | None = None) -> None:
        """Remove the first `count` records, which were committed with this offset.

        Args:
            reach: the reach that was committed with it; None if it did not change.
        """
        for _ in range(count):
            self._bytes -= self._records.popleft().size
        self._committed = offset
        if reach is not None:
            self._set_reach(reach)

    def _set_reach(self, reach: int | None) -> None:
        self._reach = reach
        self._next_at_reach = self._next
        # Early enough that reading does not wait for the commit.
        self._next_reach_from = None if reach is None else (self._next + reach) // 2

    def unresolved(self) -> Iterator[Record]:
        """Return the records that are not resolved yet."""
        return (record for record in self._records if record.resolution is None)
