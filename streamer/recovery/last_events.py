"""The mail events of a campaign's recipients: the last ones, and the mails that failed later."""

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from streamer.kafka.stored import StoredRecord
from streamer.model.campaign import CampaignName
from streamer.model.mail_event import EventType, UnreadableEventError, read_event
from streamer.model.outcome import same_address
from streamer.model.published import PublishedOutcome


class LastEvent(NamedTuple):
    """What became of a mail last."""

    occurred_at: datetime
    type: str


class LastEvents:
    """Finds the last event of each mail, and of each address that used an unsubscribe link.

    Keeps about 300 bytes for each mail with events.
    """

    def __init__(self, campaign: CampaignName) -> None:
        self._campaign = campaign
        self._by_mail: dict[str, LastEvent] = {}
        self._by_address: dict[str, LastEvent] = {}

    def read(self, records: Iterable[StoredRecord]) -> None:
        """Take the records of the topic of events into account."""
        for stored in records:
            try:
                event = read_event(stored.value)
            except UnreadableEventError:
                continue
            last = LastEvent(event.occurred_at, event.type)
            if event.email_id is not None:
                _keep_later(self._by_mail, event.email_id, last)
            elif (event.organization_id, event.campaign_id) == self._campaign and event.address:
                _keep_later(self._by_address, event.address, last)

    def of(self, outcome: PublishedOutcome) -> LastEvent | None:
        """Return the last event of a recipient; None if there is none, or nothing was sent."""
        if outcome.email_id is None:
            return None
        found = (
            self._by_mail.get(outcome.email_id),
            self._by_address.get(same_address(outcome.email)),
        )
        return max((each for each in found if each is not None), default=None)


def _keep_later(events: dict[str, LastEvent], key: str, event: LastEvent) -> None:
    known = events.get(key)
    if known is None or known < event:
        events[key] = event


_OUTSIDE = frozenset(
    (
        *(EventType.DELIVERED, EventType.DELAYED, EventType.BOUNCED, EventType.COMPLAINED),
        *(EventType.OPENED, EventType.CLICKED),
    )
)
"""What says that a mail left Resend, so that it may have arrived."""


def failed_later(records: Iterable[StoredRecord]) -> set[str]:
    """Return the ids of mails that Resend accepted and then did not send.

    A mail of which an event says that it left Resend is not among them.
    """
    failed: set[str] = set()
    left: set[str] = set()
    for stored in records:
        try:
            event = read_event(stored.value)
        except UnreadableEventError:
            continue
        if event.email_id is None:
            continue
        if event.type == EventType.FAILED:
            failed.add(event.email_id)
        elif event.type in _OUTSIDE:
            left.add(event.email_id)
    return failed - left
