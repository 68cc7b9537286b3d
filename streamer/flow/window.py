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
        start: the committed offset at the assignment; None if there was none.
    """

    def __init__(self, start: int | None) -> None:
        self._records: deque[Record] = deque()
        self._next = start
        self._bytes = 0
        self._freed: deque[int] = deque()
        self._note_freed = self._freed.append  # any thread may decide a record

    def __len__(self) -> int:
        return len(self._records)

    @property
    def position(self) -> int | None:
        """The offset to commit if nothing of the window were done: its first record's."""
        return self._records[0].offset if self._records else self._next

    @property
    def bytes(self) -> int:
        """Of memory that its records hold, about."""
        while self._freed:
            self._bytes -= self._freed.popleft()
        return self._bytes

    def admit(self, record: Record) -> bool:
        """Take a record in; False for one that was admitted before, or committed."""
        offset = record.offset
        if self._next is not None and offset < self._next:
            return False
        self._records.append(record)
        self._next = offset + 1
        self._bytes += record.size
        record.freed = self._note_freed
        return True

    def done_prefix(self, limit: int) -> list[Record]:
        """The first records of the window as far as all are decided, `limit` at most.

        No record behind an undecided one is in it: that is what keeps the offsets honest.
        """
        return list(
            islice(takewhile(lambda record: record.ending is not None, self._records), limit)
        )

    def advance(self, count: int) -> None:
        """Let go of the first records, which are committed."""
        for _ in range(count):
            self._bytes -= self._records.popleft().size

    def undecided(self) -> Iterator[Record]:
        """The records without an ending."""
        return (record for record in self._records if record.ending is None)
