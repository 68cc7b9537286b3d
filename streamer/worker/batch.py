"""A batch: mails of one organization that go to Resend in one call."""

import secrets
from enum import Enum

from streamer.model.payload import Payload
from streamer.model.record import Record


class BatchState(Enum):
    """How far a batch is; only `worker.delivery` moves it."""

    FILLING = "filling"
    PINNED = "pinned"
    SENDING = "sending"
    RESOLVED = "resolved"


class Batch:
    """The records of a batch and, in step with them, their mails.

    Args:
        organization: whose records they are.
        size: mails that it takes.
        max_bytes: bytes of its request's body.
    """

    def __init__(self, organization: str, size: int, max_bytes: int) -> None:
        self.organization = organization
        self.id = secrets.token_hex(12)
        self.state = BatchState.FILLING
        self.records: list[Record] = []
        self.mails: list[bytes] = []
        self.payload = Payload(())
        """What was pinned, or was tried to."""
        self._size = size
        self._max_bytes = max_bytes
        self._bytes = 2
        self._recipients: set[tuple[str, str | None]] = set()
        self._closed = False

    @property
    def room(self) -> int:
        """How many more mails it takes; 0 also when the next one would be too many bytes."""
        return 0 if self._closed else self._size - len(self.records)

    def holds(self, record: Record) -> bool:
        """Whether it has a mail for the record's address of the same campaign already."""
        return _recipient(record) in self._recipients

    def add(self, record: Record, mail: bytes) -> bool:
        """Add a mail; False, and the batch is closed, if its bytes have no place any more."""
        if self.records and self._bytes + len(mail) + 1 > self._max_bytes:
            self._closed = True
            return False
        self._bytes += len(mail) + 1
        self._recipients.add(_recipient(record))
        self.records.append(record)
        self.mails.append(mail)
        return True

    def remove(self, items: frozenset[int]) -> list[Record]:
        """Take members out, by their indexes, and return their records."""
        removed = [self.records[item] for item in sorted(items)]
        kept = [item for item in range(len(self.records)) if item not in items]
        self._bytes -= sum(len(self.mails[item]) + 1 for item in items)
        self._recipients.difference_update(map(_recipient, removed))
        self.records = [self.records[item] for item in kept]
        self.mails = [self.mails[item] for item in kept]
        self._closed = False
        return removed


def _recipient(record: Record) -> tuple[str, str | None]:
    return record.known_event.campaign_id, record.address
