"""An input record on its way from the topic to its one ending."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from streamer.model.event import RecipientEvent
from streamer.model.reasons import DeadReason, Reason, Status

Headers = list[tuple[str, str | bytes | None]]


class Coordinates(NamedTuple):
    """Where a record first stood; it is known by them for ever."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"


@dataclass(slots=True, frozen=True)
class Outcome:
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


class Record:
    """One input record.

    `ending` is None until it is decided; whoever decides sets it once. A plain attribute is
    enough between threads: the committing thread only ever looks whether it is there.
    """

    __slots__ = (
        "address",
        "address_fault",
        "admitted_at",
        "coordinates",
        "decided_at",
        "ending",
        "event",
        "headers",
        "key",
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
    ) -> None:
        self.coordinates = coordinates
        self.key = key
        self.value = value
        self.headers = headers
        self.size = len(value or b"")
        self.admitted_at = admitted_at
        self.event: RecipientEvent | None = None
        self.address: str | None = None
        self.address_fault: str | None = None
        self.ending: Outcome | DeadLetter | None = None
        self.decided_at = 0.0

    def end(self, ending: Outcome | DeadLetter, now: float) -> None:
        """Decide the record; `now` is wall-clock time, in seconds since 1970."""
        self.decided_at = now
        if isinstance(ending, Outcome):
            self.value = self.headers = None  # only a dead letter carries them on
        self.ending = ending

    @property
    def known_event(self) -> RecipientEvent:
        """The event of a record that was parsed."""
        if self.event is None:
            raise AssertionError(f"the record at {self.coordinates} was never parsed")
        return self.event

    @property
    def known_address(self) -> str:
        """The normalised address of a record that has a valid one."""
        if self.address is None:
            raise AssertionError(f"the record at {self.coordinates} has no valid address")
        return self.address
