"""An input record on its way from the topic to its one ending."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from operator import methodcaller
from typing import NamedTuple, Protocol

from streamer.model.event import RecipientEvent
from streamer.model.parking import Scope
from streamer.model.reasons import DeadReason, Reason, Status

Header = tuple[str, str | bytes | None]
Headers = list[Header]


# Not called as a method: a call that runs often is specialised by the interpreter, and then it
# does not look whether the client set an exception beside its result. From C it is always checked.
_headers: Callable[[Carrier], Headers | dict[str, str | bytes | None] | None]
_headers = methodcaller("headers")


class Carrier(Protocol):
    """What has headers: confluent_kafka's `Message` does."""

    def headers(self) -> Headers | dict[str, str | bytes | None] | None:
        """Its headers; of a `Message` only to be asked for by `header_list`."""

    def set_headers(self, headers: Headers, /) -> None:
        """Replace them."""


def header_list(message: Carrier) -> Headers | None:
    """A message's headers, empty for none; None where a name is not UTF-8.

    Kafka takes any bytes for a name, the client library reads text alone: it then raises a
    SystemError for all of them, and when it is asked again gives a list with a null pointer in
    it, which ends the process that touches it. So such a message has no headers afterwards.
    """
    try:
        headers = _headers(message)
    except (SystemError, UnicodeDecodeError):
        message.set_headers([])
        return None
    return list(headers.items()) if isinstance(headers, dict) else headers or []


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
    """

    scope: Scope
    until_ms: int | None = None


Ending = Outcome | DeadLetter | Parked


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
    """

    __slots__ = (
        "address",
        "address_fault",
        "admitted_at",
        "campaign_id",
        "coordinates",
        "decided_at",
        "email",
        "ending",
        "event",
        "headers",
        "key",
        "offset",
        "organization_id",
        "partition",
        "recipient_id",
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
        self.size = len(value or b"")
        self.admitted_at = admitted_at
        self.event: RecipientEvent | None = None
        self.organization_id = self.campaign_id = self.recipient_id = self.email = ""
        self.address: str | None = None
        self.address_fault: str | None = None
        self.ending: Ending | None = None
        self.decided_at = 0.0

    def take(self, event: RecipientEvent) -> None:
        """Take what was read from the value."""
        self.event = event
        self.organization_id = event.organization_id
        self.campaign_id = event.campaign_id
        self.recipient_id = event.recipient_id
        self.email = event.email

    def end(self, ending: Ending, now: float) -> None:
        """Decide the record; `now` is wall-clock time, in seconds since 1970."""
        self.decided_at = now
        if isinstance(ending, Outcome):
            # It may wait long for an older one of its partition: it keeps what an outcome needs.
            self.event = self.value = self.headers = None
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
