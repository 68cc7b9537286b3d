"""A batch: mails of one organization, sent to Resend in one call."""

import secrets
from collections.abc import Callable
from datetime import datetime
from enum import Enum
from operator import attrgetter

from streamer.model.payload import Payload
from streamer.model.record import Record

_recipient: Callable[[Record], tuple[str, str | None]] = attrgetter("campaign_id", "address")


class BatchState(Enum):
    """A batch's progress; only `worker.delivery` changes it."""

    FILLING = "filling"
    PINNED = "pinned"
    SENDING = "sending"
    RESOLVED = "resolved"


def new_id() -> str:
    """A unique batch id: 24 hexadecimal digits."""
    return secrets.token_hex(12)


class Batch:
    """The records of a batch and, in the same order, their mails.

    Args:
        organization: the organization that the records belong to.
        size: maximum number of mails.
        max_bytes: maximum size of the request body.
    """

    def __init__(self, organization: str, size: int, max_bytes: int) -> None:
        self.organization = organization
        self.sender = ""
        """The domain that all its mails come from; just one, as holds can apply to one domain."""
        self.id = new_id()
        self.state = BatchState.FILLING
        self.records: list[Record] = []
        self.mails: list[bytes] = []
        self.payload = Payload(())
        """The payload that was last pinned, or attempted."""
        self.expires_at: datetime | None = None
        """The earliest expiry of its mails, or earlier (removing members does not move it);
        None if none expires."""
        self.room = size
        """How many more mails fit; 0 once a mail exceeded the byte limit."""
        self._size = size
        self._max_bytes = max_bytes
        self._bytes = 2
        self._holders: dict[tuple[str, str | None], Record] = {}

    def holder(self, record: Record) -> Record | None:
        """The member with the record's address and campaign, or None."""
        return self._holders.get(_recipient(record))

    def add(self, record: Record, mail: bytes, expires_at: datetime | None = None) -> bool:
        """Add a mail; if it exceeds the byte limit, close the batch and return False."""
        total = self._bytes + len(mail) + 1
        if total > self._max_bytes and self.records:
            self.room = 0
            return False
        self._bytes = total
        if expires_at is not None:
            self.expires_at = min(expires_at, self.expires_at or expires_at)
        self._holders[_recipient(record)] = record
        self.records.append(record)
        self.mails.append(mail)
        self.room -= 1
        return True

    def empty(self) -> list[Record]:
        """Remove all members, and return their records."""
        records = self.records
        self.remove(frozenset(range(len(records))))
        return records

    def remove(self, items: frozenset[int]) -> None:
        """Remove members by index."""
        kept = [item for item in range(len(self.records)) if item not in items]
        self._bytes -= sum(len(self.mails[item]) + 1 for item in items)
        for item in items:
            del self._holders[_recipient(self.records[item])]
        self.records = [self.records[item] for item in kept]
        self.mails = [self.mails[item] for item in kept]
        self.room = self._size - len(kept)
        if not kept:
            self.expires_at = None
