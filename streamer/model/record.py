"""An input record on its way from the topic to its one ending."""

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
    """Where a record first stood; it is known by them for ever."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"


class Outcome(NamedTuple):
    """The ending of a record that names a campaign.

    Attributes:
        status: what became of the recipient.
        reason: None only for `sent`.
        detail: the cause in words, Resend's own for `rejected`.
        email_id: Resend's id, for `sent` alone.
        batch_id: the batch that carried the mail, where there was one.
        attempts: calls to Resend that this ending took.
    """

    status: Status
    reason: Reason | None = None
    detail: str | None = None
    email_id: str | None = None
    batch_id: str | None = None
    attempts: int = 0

    @classmethod
    def of(cls, reason: Reason, detail: str | None = None) -> Outcome:
        """The outcome of a record that no batch carried."""
        return cls(reason.status, reason, detail)


@dataclass(slots=True, frozen=True)
class DeadLetter:
    """The ending of a record that names no campaign that we can act on."""

    reason: DeadReason
    detail: str


@dataclass(slots=True, frozen=True)
class Parked:
    """No ending for good: the record is set aside, and comes back.

    Attributes:
        scope: what it waits for.
        until_ms: when it comes back at the latest, in ms since 1970; None if that is open.
        perhaps_pinned: whether a batch may have it, which may have been sent, or may yet be.
    """

    scope: Scope
    until_ms: int | None = None
    perhaps_pinned: bool = False


Ending = Outcome | DeadLetter | Parked

_OVERHEAD_BYTES = 600
"""What a record takes beside its texts of any length: measured, with its ids and its address."""


class Record:
    """One input record, or the copy of one that was parked and came back.

    Its ids and `email` are those of its event, and empty until that is taken; they outlive it.
    `ending` is None until it is decided; whoever decides sets it once. A plain attribute is
    enough between threads: the committing thread only ever looks whether it is there.

    Args:
        coordinates: where it stood first.
        admitted_at: when it was taken in, on the clock of the batcher.
        offset: where it was read, if that is not where it stood first.
        partition: likewise.
        replaces: the batch, if any, that failed its recipient: a retry takes its claim over.

    Attributes:
        size: bytes of memory that it holds, about.
        freed: is told, from whatever thread decides the record, how many of them are no more.
        refusals: how often Kafka refused its ending.
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
        """Take what was read from the value."""
        self._event = event
        self.organization_id = sys.intern(event.organization_id)
        self.campaign_id = sys.intern(event.campaign_id)
        self.recipient_id = event.recipient_id
        self.email = event.email

    def forget_event(self) -> None:
        """Let go of what was read from the value, which takes several times as much memory: it is
        read again when it is needed."""
        self._event = None

    def end(self, ending: Ending, now: float) -> None:
        """Decide the record; `now` is wall-clock time, in seconds since 1970."""
        self.decided_at = now
        self._event = None
        if isinstance(ending, Outcome):
            # It may wait long for an older one of its partition: it keeps what an outcome needs.
            self.value = self.headers = None
            if ending.detail:
                ending = ending._replace(detail=bounded(ending.detail))
        elif isinstance(ending, DeadLetter):
            ending = replace(ending, detail=bounded(ending.detail))
        before, self.size = self.size, self._measured()
        self.freed(before - self.size)
        self.ending = ending

    def _measured(self) -> int:
        # The value twice: for a while there is what is read from it, or a copy on its way out.
        size = _OVERHEAD_BYTES + 2 * len(self.value or b"")
        size += len(self.key or b"") + len(self.email)
        if self.headers:
            size += sum(len(name) + len(value or b"") for name, value in self.headers)
        return size

    @property
    def known_event(self) -> RecipientEvent:
        """The event of a record that was parsed, and is not decided."""
        if not self.organization_id or self.ending is not None:
            raise AssertionError(f"the record at {self.coordinates} has no event")
        return self._event or parse(self.value)

    @property
    def known_address(self) -> str:
        """The normalised address of a record that has a valid one."""
        if self.address is None:
            raise AssertionError(f"the record at {self.coordinates} has no valid address")
        return self.address


def _nobody_is_told(freed: int) -> None:
    del freed
