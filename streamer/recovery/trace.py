"""The history of one recipient of a campaign, from all topics and the ledger."""

from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from pydantic import JsonValue

from streamer.flow.offsets import OffsetSet
from streamer.kafka.offsets import GroupOffsets, Partition
from streamer.kafka.reading import Reader, ReadError, StoredRecord
from streamer.ledger import claim_reader, suppression
from streamer.ledger.claim_reader import ClaimStatus
from streamer.ledger.connection import Client
from streamer.model import record_headers
from streamer.model.address import InvalidAddressError, normalise
from streamer.model.campaign import CampaignName
from streamer.model.instants import as_text
from streamer.model.mail_event import UnreadableEventError, read_event
from streamer.model.outcome import read_names, same_address
from streamer.model.published import PublishedOutcome
from streamer.model.record import RecordId
from streamer.model.wire import PARKED_FOR, PARKED_UNTIL
from streamer.recovery.dead_letters import read_dead_letter
from streamer.recovery.outcomes import OutcomeReader
from streamer.settings import Settings


class RecipientQuery(NamedTuple):
    """A recipient, given by id or address."""

    recipient_id: str | None
    address: str | None
    """The address, as returned by `same_address`."""

    def is_of(self, recipient_id: str | None, email: str | None) -> bool:
        """Whether this id and address belong to the recipient."""
        if self.recipient_id is not None:
            return recipient_id == self.recipient_id
        return email is not None and same_address(email) == self.address


class EventKind(StrEnum):
    """The kind of event, in the order in which events of equal time are shown."""

    INPUT = "input"
    RETURNED = "returned"
    PARKED = "parked"
    DEAD_LETTER = "dead_letter"
    OUTCOME = "outcome"
    EVENT = "event"


@dataclass(frozen=True, slots=True)
class HistoryEvent:
    """A record about the recipient.

    Attributes:
        kind: the kind of event.
        timestamp_ms: the record's timestamp.
        stands_at: the record's topic, partition and offset.
        source: the input record's original ones, shared by all events of one input record.
        facts: further details, depending on the kind.
    """

    kind: EventKind
    timestamp_ms: int
    stands_at: RecordId
    source: RecordId
    facts: dict[str, JsonValue]


@dataclass(frozen=True, slots=True)
class LedgerStatus:
    """The current state of an address in the ledger."""

    address: str
    is_suppressed: bool
    claim_status: ClaimStatus | None


class History:
    """Collects the history of a recipient.

    Attributes:
        events: the events in chronological order.
        unreadable: number of unreadable outcomes, of any recipient.
    """

    def __init__(self, campaign: CampaignName, query: RecipientQuery) -> None:
        self.events: list[HistoryEvent] = []
        self.unreadable = 0
        self._campaign = campaign
        self._query = query
        self._addresses: set[str] = set() if query.address is None else {query.address}

    def gather(self, reader: Reader, settings: Settings) -> None:
        """Collect the events from all topics.

        Raises:
            ReadError: a topic cannot be read.
            KafkaException: Kafka cannot be used.
        """
        topics = settings.topics
        self.events = [
            *map(self._input, self._mine(_all(reader, topics.recipients))),
            *self._parked(reader, settings),
            *self._dead(self._mine(_all(reader, topics.dead_letters))),
            *self._outcomes(_all(reader, topics.outcomes)),
        ]
        self.events += self._mail_events(_all(reader, topics.events))
        order = list(EventKind)
        self.events.sort(key=lambda e: (e.timestamp_ms, order.index(e.kind), e.stands_at))

    def ledger_statuses(self, client: Client) -> list[LedgerStatus]:
        """Return the current ledger state of the recipient's valid addresses."""
        return [
            LedgerStatus(
                address,
                suppression.check(client, self._campaign.organization, [address])[0],
                claim_reader.find(client, *self._campaign, address),
            )
            for address in sorted(filter(_is_valid, self._addresses))
        ]

    def _mine(self, records: Iterable[StoredRecord]) -> Iterator[StoredRecord]:
        for stored in records:
            names = read_names(stored.value)
            if names[:2] == self._campaign and self._query.is_of(names.recipient_id, names.email):
                if names.email is not None:
                    self._addresses.add(same_address(names.email))
                yield stored

    def _input(self, stored: StoredRecord) -> HistoryEvent:
        decoded = stored.decoded_headers
        source = record_headers.source_id(decoded)
        attempt = record_headers.attempt(decoded)
        facts: dict[str, JsonValue] = {
            "replay_of": decoded.get(record_headers.REPLAY_OF),
            "retry_of": decoded.get(record_headers.RETRY_OF),
            "attempt": attempt,
        }
        kind = EventKind.INPUT if source is None else EventKind.RETURNED
        return _event(kind, stored, source or stored.record_id, facts)

    def _parked(self, reader: Reader, settings: Settings) -> Iterator[HistoryEvent]:
        topic = settings.topics.parked
        spans = reader.spans(topic)
        left = _left(settings, [(topic, span.partition) for span in spans])
        for stored in self._mine(reader.read(topic, spans, topic)):
            decoded = stored.decoded_headers
            _, partition, offset = stored.record_id
            until = decoded.get(PARKED_UNTIL, "")
            facts: dict[str, JsonValue] = {
                "parked_for": decoded.get(PARKED_FOR),
                "parked_until_ms": int(until) if until.isdecimal() else None,
                "is_waiting": offset not in left.get(partition, ()),
            }
            source = record_headers.source_id(decoded) or stored.record_id
            yield _event(EventKind.PARKED, stored, source, facts)

    def _dead(self, records: Iterable[StoredRecord]) -> Iterator[HistoryEvent]:
        for stored in records:
            dead_letter = read_dead_letter(stored)
            if dead_letter is not None:
                facts: dict[str, JsonValue] = {
                    "reason": dead_letter.reason,
                    "detail": dead_letter.detail,
                }
                yield _event(EventKind.DEAD_LETTER, stored, dead_letter.source, facts)

    def _outcomes(self, records: Iterable[StoredRecord]) -> Iterator[HistoryEvent]:
        told = OutcomeReader(self._campaign)
        for stored, outcome in told.among(records):
            if self._query.is_of(outcome.recipient_id, outcome.email):
                self._addresses.add(same_address(outcome.email))
                yield _event(EventKind.OUTCOME, stored, outcome.record_id, _said(outcome))
        self.unreadable = told.unreadable

    def _mail_events(self, records: Iterable[StoredRecord]) -> list[HistoryEvent]:
        """Return what became of the recipient's mails, each event once."""
        sources = {event.source for event in self.events}
        found: dict[str, HistoryEvent] = {}
        for stored in records:
            try:
                event = read_event(stored.value)
            except UnreadableEventError:
                continue
            is_named = (event.organization_id, event.campaign_id) == self._campaign
            is_mine = is_named and event.address in self._addresses
            if not is_mine and event.record_id not in sources:
                continue
            facts: dict[str, JsonValue] = {
                "type": event.type,
                "event_occurred_at": as_text(event.occurred_at),
                **event.details,
                "email_id": event.email_id,
                "came_by": event.origin.kind,
            }
            name = event.origin.event_id or str(stored.record_id)
            source = event.record_id or stored.record_id
            found.setdefault(name, _event(EventKind.EVENT, stored, source, facts))
        return list(found.values())


def _all(reader: Reader, topic: str) -> Iterator[StoredRecord]:
    return reader.read(topic, reader.spans(topic), topic)


def _left(settings: Settings, partitions: list[Partition]) -> dict[int, OffsetSet]:
    """Return which records left the parked topic, from the offsets of the relay's group."""
    group = f"{settings.kafka.group_id}.relay"
    with closing(GroupOffsets(settings, group)) as offsets:
        found = offsets.read(partitions)
    try:
        return {p: OffsetSet.decode(each.offset, each.metadata) for (_, p), each in found.items()}
    except ValueError as error:  # written by another version
        raise ReadError(f"cannot read the offsets of group {group}: {error}") from None


def _event(
    kind: EventKind, stored: StoredRecord, source: RecordId, facts: dict[str, JsonValue]
) -> HistoryEvent:
    return HistoryEvent(kind, stored.timestamp_ms, stored.record_id, source, facts)


def _said(outcome: PublishedOutcome) -> dict[str, JsonValue]:
    said: dict[str, JsonValue] = outcome.model_dump(
        mode="json", exclude={"organization_id", "campaign_id", "source"}
    )
    return said


def _is_valid(address: str) -> bool:
    try:
        normalise(address)
    except InvalidAddressError:
        return False
    return True
