"""The window of a partition: what was admitted and is not yet committed."""

from collections import deque
from collections.abc import Iterator
from itertools import islice, takewhile

from streamer.model.record import Record

Partition = tuple[str, int]
"""A topic and the number of its partition."""


class PartitionWindow:
    """The records of one partition between its committed offset and the last one admitted.

    It lives as long as one assignment of the partition. Records that are decided after it was
    dropped are decided for nobody: whoever owns the partition now has records of its own.

    Args:
        start: the offset to begin at.
        is_marked: whether that is committed, with the ledger's epoch beside it. Where it is not,
            it has to be before any record is admitted.
    """

    def __init__(self, start: int, *, is_marked: bool) -> None:
        self._records: deque[Record] = deque()
        self._next = start
        self._bytes = 0
        self._freed: deque[int] = deque()
        self._note_freed = self._freed.append  # any thread may decide a record
        self._committed = start if is_marked else None

    def __len__(self) -> int:
        return len(self._records)

    @property
    def position(self) -> int:
        """The offset to commit if nothing of the window were done."""
        return self.position_after(0)

    @property
    def is_marked(self) -> bool:
        """Whether an offset of it is committed with the ledger's epoch."""
        return self._committed is not None

    @property
    def committed_offset(self) -> int | None:
        """The offset that is committed with the ledger's epoch; None if there is none yet."""
        return self._committed

    @property
    def is_behind(self) -> bool:
        """Whether its offset has to be committed although no record is done.

        It is not marked; or it is empty, and what lies between the committed offset and the
        position is no record: the marker of a transaction that wrote to the partition. Left
        alone that would be taken for a record which nobody reads.
        """
        return self._committed is None or (not self._records and self._committed != self._next)

    def position_after(self, count: int) -> int:
        """The offset to commit when the first `count` records are done."""
        return self._records[count].offset if count < len(self._records) else self._next

    @property
    def bytes(self) -> int:
        """Of memory that its records hold, about."""
        while self._freed:
            self._bytes -= self._freed.popleft()
        return self._bytes

    def admit(self, record: Record) -> bool:
        """Take a record in; False for one that was admitted before, or committed."""
        offset = record.offset
        if offset < self._next:
            return False
        self._records.append(record)
        self._next = offset + 1
        self._bytes += record.size
        record.on_freed = self._note_freed
        return True

    def pass_to(self, offset: int) -> None:
        """Take note that all records before the offset were admitted."""
        self._next = max(self._next, offset)

    def done_prefix(self, limit: int) -> list[Record]:
        """The first records of the window as far as all are decided, `limit` at most.

        No record behind an undecided one is in it: that is what keeps the offsets honest.
        """
        return list(
            islice(takewhile(lambda record: record.resolution is not None, self._records), limit)
        )

    def committed(self, count: int, offset: int) -> None:
        """Let go of the first records: they are committed, with this offset."""
        for _ in range(count):
            self._bytes -= self._records.popleft().size
        self._committed = offset

    def unresolved(self) -> Iterator[Record]:
        """The records without an ending."""
        return (record for record in self._records if record.resolution is None)
