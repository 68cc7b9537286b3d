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


class RecordId(NamedTuple):
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
        maybe_pinned: the record may belong to a pinned batch, which may have been or may still
            be sent.
    """

    scope: Scope
    until_ms: int | None = None
    maybe_pinned: bool = False


Resolution = Outcome | DeadLetter | Parked

_OVERHEAD_BYTES = 600
"""Memory per record besides its variable-length fields; measured, including ids and address."""


class Record:
    """One input record, or the returned copy of a parked one.

    The ids and `email` are empty until `attach_event`; they remain after the event is dropped.
    `resolution` is None until the record is resolved, and is set once. A plain attribute is
    thread-safe enough: the committing thread only checks whether it is set.

    Args:
        record_id: the original topic, partition and offset.
        admitted_at: when the record was admitted, on the batcher's clock.
        offset: the offset at which it was read, if not the original.
        partition: the partition from which it was read, if not the original.
        replaces: for a retry, the failed batch whose claim it takes over; else empty.
        was_parked: whether it returned from the parked topic, so that it counts as parked until
            it has an outcome or is a dead letter.

    Attributes:
        size: approximate bytes of memory in use.
        on_freed: callback with the number of bytes freed, called in the thread that resolves the
            record.
        refusals: how often Kafka rejected the record's result.
    """

    __slots__ = (
        "_event",
        "address",
        "address_error",
        "admitted_at",
        "campaign_id",
        "decided_at",
        "email",
        "headers",
        "key",
        "offset",
        "on_freed",
        "organization_id",
        "partition",
        "recipient_id",
        "record_id",
        "refusals",
        "replaces",
        "resolution",
        "size",
        "value",
        "was_parked",
    )

    def __init__(
        self,
        record_id: RecordId,
        key: bytes | None,
        value: bytes | None,
        headers: Headers | None,
        admitted_at: float,
        offset: int | None = None,
        partition: int | None = None,
        replaces: str = "",
        *,
        was_parked: bool = False,
    ) -> None:
        self.record_id = record_id
        self.offset = record_id.offset if offset is None else offset
        self.partition = record_id.partition if partition is None else partition
        self.replaces = replaces
        self.was_parked = was_parked
        self.key = key
        self.value = value
        self.headers = headers
        self.admitted_at = admitted_at
        self._event: RecipientEvent | None = None
        self.organization_id = self.campaign_id = self.recipient_id = self.email = ""
        self.address: str | None = None
        self.address_error: str | None = None
        self.resolution: Resolution | None = None
        self.decided_at = 0.0
        self.refusals = 0
        self.on_freed: Callable[[int], None] = _ignore_freed
        self.size = self._measure_size()

    def attach_event(self, event: RecipientEvent) -> None:
        """Attach the event parsed from the value."""
        self._event = event
        self.organization_id = sys.intern(event.organization_id)
        self.campaign_id = sys.intern(event.campaign_id)
        self.recipient_id = event.recipient_id
        self.email = event.email

    def forget_event(self) -> None:
        """Drop the parsed event, several times the size of the value; it is parsed again on use."""
        self._event = None

    def resolve(self, resolution: Resolution, now: float) -> None:
        """Set the record's result; `now` is in seconds since 1970."""
        self.decided_at = now
        self._event = None
        if isinstance(resolution, Outcome):
            # An older record of its partition may delay the commit: keep only what is written.
            self.value = self.headers = None
            if resolution.detail:
                resolution = resolution._replace(detail=bounded(resolution.detail))
        elif isinstance(resolution, DeadLetter):
            resolution = replace(resolution, detail=bounded(resolution.detail))
        before, self.size = self.size, self._measure_size()
        self.on_freed(before - self.size)
        self.resolution = resolution

    def _measure_size(self) -> int:
        # The value counts twice, for its parsed form or for the copy that is being produced.
        size = _OVERHEAD_BYTES + len(self.email)
        if self.value is not None:
            size += 2 * len(self.value)
        if self.key is not None:
            size += len(self.key)
        if self.headers:
            size += sum(len(name) + len(value or b"") for name, value in self.headers)
        return size

    @property
    def required_event(self) -> RecipientEvent:
        """The event; the record must be parsed and unresolved."""
        if not self.organization_id or self.resolution is not None:
            raise AssertionError(f"the record at {self.record_id} has no event")
        return self._event or parse(self.value)

    @property
    def required_address(self) -> str:
        """The normalised address, which must be valid."""
        if self.address is None:
            raise AssertionError(f"the record at {self.record_id} has no valid address")
        return self.address


def _ignore_freed(freed: int) -> None:
    del freed
