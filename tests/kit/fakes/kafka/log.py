"""A partition's records, the transactions they belong to, and where readers may read."""

from dataclasses import dataclass, field
from enum import Enum, auto
from typing import NamedTuple

from confluent_kafka import Message, TopicPartition

from streamer.model.record import Headers

Partition = tuple[str, int]


class End(Enum):
    """What became of a transaction."""

    OPEN = auto()
    COMMITTED = auto()
    ABORTED = auto()


@dataclass(eq=False)
class Transaction:
    """A transaction as its coordinator knows it.

    Attributes:
        began: by the cluster's clock.
        offsets: what it commits, by group.
    """

    began: float
    end: End = End.OPEN
    partitions: set[Partition] = field(default_factory=set)
    offsets: dict[str, dict[Partition, TopicPartition]] = field(default_factory=dict)


class Stored(NamedTuple):
    """A record as a broker keeps it; `transaction` is None if it was written without one."""

    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp_ms: int
    transaction: Transaction | None = None

    @property
    def size(self) -> int:
        """About how many bytes it takes in a batch."""
        headers = sum(len(name) + len(value or b"") for name, value in self.headers)
        return len(self.key or b"") + len(self.value or b"") + headers

    @property
    def is_open(self) -> bool:
        """Whether its transaction has not ended."""
        return self.transaction is not None and self.transaction.end is End.OPEN

    @property
    def is_committed(self) -> bool:
        """Whether a reader of committed records may see it."""
        return self.transaction is None or self.transaction.end is End.COMMITTED


class Log:
    """The records of one partition. A transaction's end takes an offset, too.

    Attributes:
        start: the first offset that was not deleted.
        unseen: how many of the last offsets a new leader does not show yet, since it does not know
            that all replicas have them.
    """

    def __init__(self) -> None:
        self.start = 0
        self.unseen = 0
        self._entries: list[Stored | None] = []

    def append(self, entry: Stored | None) -> None:
        """Add a record, or the marker of a transaction's end."""
        self._entries.append(entry)

    @property
    def end(self) -> int:
        """The high watermark."""
        return len(self._entries)

    @property
    def stable_end(self) -> int:
        """The last stable offset: the first record of a transaction that is open, or the end of
        what is shown."""
        for offset in range(self.start, self.end):
            entry = self._entries[offset]
            if entry is not None and entry.is_open:
                return offset
        return self.end - self.unseen

    def at(self, offset: int) -> Stored | None:
        """The record at an offset; None at a marker."""
        return self._entries[offset]

    def first_since(self, timestamp_ms: int) -> int:
        """The first offset with a record of at least that age; the end if there is none."""
        for offset in range(self.start, self.end):
            entry = self._entries[offset]
            if entry is not None and entry.timestamp_ms >= timestamp_ms:
                return offset
        return self.end

    def committed(self) -> dict[int, Stored]:
        """The records that a reader of committed records sees, by offset."""
        return {
            offset: entry
            for offset in range(self.start, self.stable_end)
            if (entry := self._entries[offset]) is not None and entry.is_committed
        }


def message(partition: Partition, offset: int, stored: Stored) -> Message:
    """The record as a consumer gives it."""
    return Message(
        *partition,
        offset,
        stored.key,
        stored.value,
        headers=list(stored.headers) or None,
        timestamp=(1, stored.timestamp_ms),
    )
