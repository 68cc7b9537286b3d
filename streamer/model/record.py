"""An input record, from the topic to its single result."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

from streamer.model.detail import bounded
from streamer.model.event import RecipientEvent, parse
from streamer.model.parking import Scope
from streamer.model.reasons import DeadReason, Reason, Status

Header = tuple[str, str | bytes | None]
Headers = list[Header]


class Coordinates(NamedTuple):
    """The original topic, partition and offset of a record: its permanent id."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"


class Outcome(NamedTuple):
    """The result of a record that names a campaign.

    Attributes:
        status: the result for the recipient.
        reason: None only for `sent`.
        detail: the cause in words; for `rejected`, Resend's message.
        email_id: Resend's id for the mail; only for `sent`.
        batch_id: the batch that carried the mail, if any.
        attempts: how many calls to Resend were made.
    """

    status: Status
    reason: Reason | None = None
    detail: str | None = None
    email_id: str | None = None
    batch_id: str | None = None
    attempts: int = 0

    @classmethod
    def of(cls, reason: Reason, detail: str | None = None) -> Outcome:
        """Return the outcome of a record that was in no batch."""
        return cls(reason.status, reason, detail)


@dataclass(slots=True, frozen=True)
class DeadLetter:
    """The result of a record that names no usable campaign."""

    reason: DeadReason
    detail: str


@dataclass(slots=True, frozen=True)
class Parked:
    """A temporary result: the record waits in the parked topic and returns later.

    Attributes:
        scope: what the record waits for.
        until_ms: the latest time of return, in ms since 1970; None if unlimited.
        perhaps_pinned: the record may belong to a pinned batch, which may have been or may still
            be sent.
    """

    scope: Scope
    until_ms: int | None = None
    perhaps_pinned: bool = False


Ending = Outcome | DeadLetter | Parked

_OVERHEAD_BYTES = 600
"""Memory per record besides its variable-length fields; measured, including ids and address."""


class Record:
    """One input record, or the returned copy of a parked one.

    The ids and `email` are empty until `take`; they remain after the event is dropped. `ending` is
    None until the record is resolved, and is set once. A plain attribute is thread-safe enough:
    the committing thread only checks whether it is set.

    Args:
        coordinates: the original topic, partition and offset.
        admitted_at: when the record was admitted, on the batcher's clock.
        offset: the offset at which it was read, if not the original.
        partition: the partition from which it was read, if not the original.
        replaces: for a retry, the failed batch whose claim it takes over; else empty.

    Attributes:
        size: approximate bytes of memory in use.
        freed: callback with the number of bytes freed, called in the thread that resolves the
            record.
        refusals: how often Kafka rejected the record's result.
    """

    __slots__ = (
        "_event",
        "address",
        "address_fault",
        "admitted_at",
        "campaign_id",
        "coordinates",
        "decided_at",
        "email",
        "ending",
        "freed",
        "headers",
        "key",
        "offset",
        "organization_id",
        "partition",
        "recipient_id",
        "refusals",
        "replaces",
        "size",
        "value",
    )

    def __init__(
        self,
        coordinates: Coordinates,
        key: bytes | None,
        value: bytes | None,
        headers: Headers | None,
        admitted_at: float,
        offset: int | None = None,
        partition: int | None = None,
        replaces: str = "",
    ) -> None:
        self.coordinates = coordinates
        self.offset = coordinates.offset if offset is None else offset
        self.partition = coordinates.partition if partition is None else partition
        self.replaces = replaces
        self.key = key
        self.value = value
        self.headers = headers
        self.admitted_at = admitted_at
        self._event: RecipientEvent | None = None
        self.organization_id = self.campaign_id = self.recipient_id = self.email = ""
        self.address: str | None = None
        self.address_fault: str | None = None
        self.ending: Ending | None = None
        self.decided_at = 0.0
        self.refusals = 0
        self.freed: Callable[[int], None] = _nobody_is_told
        self.size = self._measured()

    def take(self, event: RecipientEvent) -> None:
        """Attach the event parsed from the value."""
        self._event = event
        self.organization_id = sys.intern(event.organization_id)
        self.campaign_id = sys.intern(event.campaign_id)
        self.recipient_id = event.recipient_id
        self.email = event.email

    def forget_event(self) -> None:
        """Drop the parsed event, several times the size of the value; it is parsed again on use."""
        self._event = None

    def end(self, ending: Ending, now: float) -> None:
        """Set the record's result; `now` is in seconds since 1970."""
        self.decided_at = now
        self._event = None
        if isinstance(ending, Outcome):
            # An older record of its partition may delay the commit: keep only what is written.
            self.value = self.headers = None
            if ending.detail:
                ending = ending._replace(detail=bounded(ending.detail))
        elif isinstance(ending, DeadLetter):
            ending = replace(ending, detail=bounded(ending.detail))
        before, self.size = self.size, self._measured()
        self.freed(before - self.size)
        self.ending = ending

    def _measured(self) -> int:
        # The value counts twice, for its parsed form or for the copy that is being produced.
        size = _OVERHEAD_BYTES + 2 * len(self.value or b"")
        size += len(self.key or b"") + len(self.email)
        if self.headers:
            size += sum(len(name) + len(value or b"") for name, value in self.headers)
        return size

    @property
    def known_event(self) -> RecipientEvent:
        """The event; the record must be parsed and unresolved."""
        if not self.organization_id or self.ending is not None:
            raise AssertionError(f"the record at {self.coordinates} has no event")
        return self._event or parse(self.value)

    @property
    def known_address(self) -> str:
        """The normalised address, which must be valid."""
        if self.address is None:
            raise AssertionError(f"the record at {self.coordinates} has no valid address")
        return self.address


def _nobody_is_told(freed: int) -> None:
    del freed
