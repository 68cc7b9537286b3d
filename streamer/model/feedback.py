"""What mail events mean for a recipient and for suppression. Pure.

A recipient's feedback is a set of flags, to which events only add, and the latest times at which
they unsubscribed and undid it. So the same events give the same feedback in any order, however
often each of them comes.
"""

from dataclasses import dataclass
from enum import IntFlag, StrEnum

from streamer.model.mail_event import EventType
from streamer.model.published import PublishedMailEvent

UNSUBSCRIBED = "unsubscribed"


class Flag(IntFlag):
    """What has become of a recipient's mail. The numbers are stored: never change them."""

    DELIVERED = 1
    DELAYED = 2
    BOUNCED_PERMANENT = 4
    BOUNCED_TRANSIENT = 8
    COMPLAINED = 16
    OPENED = 32
    CLICKED = 64
    FAILED_LATER = 128
    SUPPRESSED = 256

    @property
    def word(self) -> str:
        """The name in counts."""
        return (self.name or "").lower()


EVENT_WORDS = (*(flag.word for flag in Flag), UNSUBSCRIBED)
"""The names of a campaign's event counts, in the order in which they are shown."""


_NO_FLAG = Flag(0)


class Why(StrEnum):
    """Why an address is suppressed, or no longer is."""

    BOUNCED = "bounced"
    COMPLAINED = "complained"
    SUPPRESSED = "suppressed"
    UNSUBSCRIBED = "unsubscribed"
    RESUBSCRIBED = "resubscribed"


_FLAGS: dict[str, Flag] = {
    EventType.DELIVERED: Flag.DELIVERED,
    EventType.DELAYED: Flag.DELAYED,
    EventType.COMPLAINED: Flag.COMPLAINED,
    EventType.OPENED: Flag.OPENED,
    EventType.CLICKED: Flag.CLICKED,
    EventType.FAILED: Flag.FAILED_LATER,
    EventType.SUPPRESSED: Flag.SUPPRESSED,
}
_WHYS: dict[str, Why] = {
    EventType.COMPLAINED: Why.COMPLAINED,
    EventType.SUPPRESSED: Why.SUPPRESSED,
    EventType.UNSUBSCRIBED: Why.UNSUBSCRIBED,
    EventType.RESUBSCRIBED: Why.RESUBSCRIBED,
}


@dataclass(slots=True)
class Feedback:
    """What events say about one recipient of a campaign.

    Attributes:
        flags: what has become of the mail.
        unsubscribed_ms: when the recipient last unsubscribed, in ms since 1970; 0 for never.
        resubscribed_ms: when the recipient last undid that.
    """

    flags: Flag = _NO_FLAG
    unsubscribed_ms: int = 0
    resubscribed_ms: int = 0

    def add(self, event: PublishedMailEvent) -> None:
        """Add an event of this recipient."""
        at = round(event.occurred_at.timestamp() * 1000)
        if event.type == EventType.UNSUBSCRIBED:
            self.unsubscribed_ms = max(self.unsubscribed_ms, at)
        elif event.type == EventType.RESUBSCRIBED:
            self.resubscribed_ms = max(self.resubscribed_ms, at)
        else:
            self.flags |= flag_of(event)

    def covers(self, other: "Feedback") -> bool:
        """Whether this says all that the other one does."""
        return (
            self.flags & other.flags == other.flags
            and self.unsubscribed_ms >= other.unsubscribed_ms
            and self.resubscribed_ms >= other.resubscribed_ms
        )

    def __bool__(self) -> bool:
        """Whether there is anything to count."""
        return bool(self.flags or self.unsubscribed_ms or self.resubscribed_ms)


def flag_of(event: PublishedMailEvent) -> Flag:
    """Return what an event adds to the flags; nothing for types that are not counted."""
    if event.type == EventType.BOUNCED:
        return Flag.BOUNCED_PERMANENT if _is_permanent(event) else Flag.BOUNCED_TRANSIENT
    return _FLAGS.get(event.type, _NO_FLAG)


def why_of(event: PublishedMailEvent) -> Why | None:
    """Return why an event suppresses its address, or no longer does; None if it does neither."""
    if event.type == EventType.BOUNCED:
        return Why.BOUNCED if _is_permanent(event) else None
    return _WHYS.get(event.type)


def _is_permanent(event: PublishedMailEvent) -> bool:
    return event.details.get("bounce_type") == "Permanent"
