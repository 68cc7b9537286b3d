"""The history of one recipient of a campaign, from all topics and the ledger."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import orjson
from pydantic import JsonValue

from streamer.flow.offsets import OffsetSet
from streamer.kafka.matching import MayMatch, by_key, by_value
from streamer.kafka.offsets import GroupOffsets, Partition
from streamer.kafka.partitions import partition_of
from streamer.kafka.properties import relay_group
from streamer.kafka.reading import ReadError
from streamer.kafka.stored import PartitionRange, Reader, StoredRecord
from streamer.ledger import campaigns, claim_reader, suppression
from streamer.ledger.claim_reader import ClaimStatus
from streamer.ledger.connection import Client
from streamer.ledger.mail_events import read_feedback
from streamer.model import record_headers
from streamer.model.address import InvalidAddressError, normalise
from streamer.model.campaign import CampaignName
from streamer.model.feedback import Feedback
from streamer.model.instants import as_text, milliseconds
from streamer.model.mail_event import UnreadableEventError, event_key, read_event
from streamer.model.outcome import read_names, same_address
from streamer.model.published import PublishedMailEvent, PublishedOutcome
from streamer.model.record import RecordId
from streamer.model.wire import PARKED_FOR, PARKED_UNTIL
from streamer.recovery.dead_letters import read_at, read_dead_letter
from streamer.recovery.outcomes import OutcomeReader
from streamer.recovery.prefilter import (
    ValueTest,
    may_have_address,
    may_have_id,
    may_have_offset,
)
from streamer.settings import Settings

_CLOCKS_DIFFER_MS = 3_600_000
"""By how much the clock of who created a campaign may be ahead."""
_MARGIN_MS = 300_000
"""By how much the clocks of producers, workers and Redis may differ."""


class RecipientQuery(NamedTuple):
    """A recipient, given by id or address."""

    recipient_id: str | None
    address: str | None
    """The address, as returned by `same_address`."""

    def prefilter(self) -> ValueTest:
        """Return a test of a record's value for this recipient that is quicker than parsing it."""
        if self.recipient_id is not None:
            return may_have_id(self.recipient_id)
        return may_have_address(self.address or "")

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
        unreadable: number of unreadable outcomes that may be the recipient's.
        is_complete: whether the topics were read for records of the recipient; otherwise only what
            the ledger leads to was.

    Args:
        since: earliest time of a record, in ms since 1970; None for any.
        until: records of this time and later are left out; None for none.
    """

    def __init__(
        self,
        campaign: CampaignName,
        query: RecipientQuery,
        since: int | None = None,
        until: int | None = None,
    ) -> None:
        self.events: list[HistoryEvent] = []
        self.unreadable = 0
        self.is_complete = False
        self._campaign = campaign
        self._query = query
        self._may_concern = by_value(query.prefilter())
        self._since = since
        self._until = until
        self._addresses: set[str] = set() if query.address is None else {query.address}

    def follow(
        self,
        reader: Reader,
        settings: Settings,
        client: Client,
        announce: Callable[[str, int], None],
    ) -> bool:
        """Collect the events to which the ledger or the recipient's id leads, reading few records.

        An id is the key of the input records, as `streamer produce` writes them: one partition has
        them, since the campaign was created, and their outcomes follow within moments.

        The claim on an address names the input record and the time of its batch; the record's key
        and that time lead to its outcome. Of a retry, the attempts before it are found as well.
        Records that claimed nothing, such as duplicates, are not found.

        Of the mail events only the partition of the address is read, from the time of the mail
        until all is found that the ledger knows to have happened, and what was not applied to it
        yet: not each event that was repeated.

        Args:
            announce: called with a topic and the number of offsets, before those of the partition
                of an id are read: as many as the topic has, if that has one partition.

        Returns:
            Whether it led to the record and, if it has one, to its outcome.

        Raises:
            ReadError: a topic cannot be read.
            KafkaException: Kafka cannot be used.
        """
        if self._query.recipient_id is not None:
            self.events = self._by_key(reader, settings, client, self._query.recipient_id, announce)
        else:
            self.events = self._by_claim(reader, settings, client, self._query.address or "")
        if not self.events:
            return False
        began = min(event.timestamp_ms for event in self.events)
        for address in sorted(filter(_is_valid, self._addresses)):
            self.events += self._events_of_address(reader, settings, client, address, began)
        self._order()
        return True

    def _by_key(
        self,
        reader: Reader,
        settings: Settings,
        client: Client,
        recipient_id: str,
        announce: Callable[[str, int], None],
    ) -> list[HistoryEvent]:
        """Read the input records that have the id as their key, and what became of each."""
        topic, key = settings.topics.recipients, recipient_id.encode(errors="surrogatepass")
        spans = _of_key(settings, key, reader.spans(topic))
        created_at = campaigns.created_at(client, *self._campaign)
        if created_at is not None:
            spans = reader.since(topic, spans, milliseconds(created_at) - _CLOCKS_DIFFER_MS)
        announce(topic, sum(span.end - span.start for span in spans))
        inputs = list(self._mine(reader.read(topic, spans, topic, by_key(key))))
        events = list(map(self._input, inputs))
        if not events:
            return []
        is_open = False
        for event in {each.source: each for each in reversed(events)}.values():
            since = event.timestamp_ms - _MARGIN_MS
            outcome = self._outcome_of(reader, settings, event.source, key, since)
            events += [] if outcome is None else [outcome]
            is_open = is_open or outcome is None
        if is_open:
            since, topic = inputs[0].timestamp_ms - _MARGIN_MS, settings.topics.dead_letters
            events += self._parked(reader, settings, since)
            dead = reader.since(topic, _of_key(settings, key, reader.spans(topic)), since)
            events += self._dead(self._mine(reader.read(topic, dead, topic, by_key(key))))
        return events

    def _by_claim(
        self, reader: Reader, settings: Settings, client: Client, address: str
    ) -> list[HistoryEvent]:
        """Read the record that claimed an address, its outcome and the attempts before it."""
        claim_status = (
            claim_reader.find(client, *self._campaign, address) if _is_valid(address) else None
        )
        if claim_status is None:
            return []
        claim, batch = claim_status
        pinned_at = None if batch is None else batch.pinned_at
        source: RecordId | None = claim.record_id
        since = None if pinned_at is None else milliseconds(pinned_at)
        events: list[HistoryEvent] = []
        while source is not None and source.topic == settings.topics.recipients:
            stored = read_at(reader, source.topic, source.partition, source.offset)
            mine = [] if stored is None else list(self._mine([stored]))
            if not mine:
                break  # Kafka has deleted it, or the topic was created anew
            events += map(self._input, mine)
            begin = mine[0].timestamp_ms if since is None else max(since, mine[0].timestamp_ms)
            outcome = self._outcome_of(reader, settings, source, mine[0].key, begin - _MARGIN_MS)
            if outcome is None and len(events) == 1:
                if batch is None or batch.result is not None:
                    return []
                events += self._parked(reader, settings, mine[0].timestamp_ms - _MARGIN_MS)
            events += [] if outcome is None else [outcome]
            source, since = _earlier(mine[0]), None
        return events

    def _events_of_address(
        self, reader: Reader, settings: Settings, client: Client, address: str, since: int
    ) -> list[HistoryEvent]:
        """Read the mail events of an address from a time on, as far as `follow` does."""
        topic, key = settings.topics.events, event_key(address)
        spans = _of_key(settings, key, reader.spans(topic))
        spans = [span for span in reader.since(topic, spans, since) if span.start < span.end]
        if not spans:
            return []
        # In this order: the ledger may know more than what was committed says, but not less.
        applied = _applied(settings, topic, spans)
        known = read_feedback(client, self._campaign, address)
        found: dict[str, HistoryEvent] = {}
        seen = Feedback()
        may_match = by_key(key)
        if known:
            for stored in reader.read(topic, applied, topic, may_match):
                event = self._mail_event(stored, found)
                if event is not None:
                    seen.add(event)
                    if seen.covers(known):
                        break
        rest = [span._replace(start=done.end) for span, done in zip(spans, applied, strict=True)]
        for stored in reader.read(topic, rest, topic, may_match):
            self._mail_event(stored, found)
        return list(found.values())

    def _outcome_of(
        self, reader: Reader, settings: Settings, source: RecordId, key: bytes | None, since: int
    ) -> HistoryEvent | None:
        """Read the outcomes' partition of this key until the outcome of an input record."""
        topic = settings.topics.outcomes
        spans = _of_key(settings, key, reader.spans(topic))
        needle = orjson.dumps(source._asdict())
        may_match = by_value(lambda value: needle in value) if key is None else by_key(key)
        spans = reader.since(topic, spans, since)
        found = self._outcomes(reader.read(topic, spans, None, may_match))
        return next((event for event in found if event.source == source), None)

    def gather(self, reader: Reader, settings: Settings) -> None:
        """Collect the events from all topics.

        Raises:
            ReadError: a topic cannot be read.
            KafkaException: Kafka cannot be used.
        """
        topics = settings.topics
        self.is_complete = True
        self.events = [
            *map(self._input, self._mine(self._all(reader, topics.recipients))),
            *self._parked(reader, settings, self._since),
            *self._dead(self._mine(self._all(reader, topics.dead_letters))),
            *self._outcomes(self._all(reader, topics.outcomes)),
        ]
        spans = self._spans(reader, topics.events)
        self.events += self._mail_events(
            reader.read(topics.events, spans, topics.events, self._of_mails())
        )
        self._order()

    def size(self, reader: Reader, settings: Settings) -> int:
        """The number of offsets that `gather` would read of all times.

        Raises:
            ReadError, KafkaException: as `gather`.
        """
        topics = settings.topics
        names = (
            topics.recipients,
            topics.parked,
            topics.dead_letters,
            topics.outcomes,
            topics.events,
        )
        spans = reader.spans_of(names)
        return sum(span.end - span.start for of_topic in spans for span in of_topic)

    def _order(self) -> None:
        order = list(EventKind)
        self.events.sort(key=lambda e: (e.timestamp_ms, order.index(e.kind), e.stands_at))

    def _spans(self, reader: Reader, topic: str) -> list[PartitionRange]:
        spans = reader.spans(topic)
        if self._until is not None:
            ends = reader.since(topic, spans, self._until)
            spans = [span._replace(end=end.start) for span, end in zip(spans, ends, strict=True)]
        return spans if self._since is None else reader.since(topic, spans, self._since)

    def _all(self, reader: Reader, topic: str) -> Iterator[StoredRecord]:
        return reader.read(topic, self._spans(reader, topic), topic, self._may_concern)

    def _of_mails(self) -> MayMatch:
        """Return a test for mail events of the addresses and records found so far."""
        tests = [
            *map(may_have_address, self._addresses),
            *(may_have_offset(event.source.offset) for event in self.events),
        ]
        return by_value(lambda value: any(test(value) for test in tests))

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

    def _parked(
        self, reader: Reader, settings: Settings, since: int | None
    ) -> Iterator[HistoryEvent]:
        topic = settings.topics.parked
        spans = self._spans(reader, topic)
        if since is not None:
            spans = reader.since(topic, spans, since)
        left = _left(settings, [(topic, span.partition) for span in spans])
        for stored in self._mine(reader.read(topic, spans, topic, self._may_concern)):
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
        found: dict[str, HistoryEvent] = {}
        for stored in records:
            self._mail_event(stored, found)
        return list(found.values())

    def _mail_event(
        self, stored: StoredRecord, found: dict[str, HistoryEvent]
    ) -> PublishedMailEvent | None:
        """Add an event of the recipient to those found, and return it; None for any other."""
        try:
            event = read_event(stored.value)
        except UnreadableEventError:
            return None
        is_named = (event.organization_id, event.campaign_id) == self._campaign
        is_mine = is_named and event.address in self._addresses
        if not is_mine and not any(event.record_id == each.source for each in self.events):
            return None
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
        return event


def _of_key(
    settings: Settings, key: bytes | None, spans: Sequence[PartitionRange]
) -> list[PartitionRange]:
    """Return the partition of a key, or all of them if that cannot be told."""
    number = partition_of(settings, key, len(spans))
    return [span for span in spans if number is None or span.partition == number]


def _applied(
    settings: Settings, topic: str, spans: Iterable[PartitionRange]
) -> list[PartitionRange]:
    """Return the parts of the spans that were applied to the ledger."""
    spans = list(spans)
    with closing(GroupOffsets(settings, f"{settings.kafka.group_id}.events")) as offsets:
        committed = offsets.read([(topic, span.partition) for span in spans])
    ends = {number: at.offset for (_, number), at in committed.items()}
    return [
        span._replace(end=min(max(ends.get(span.partition, 0), span.start), span.end))
        for span in spans
    ]


def _earlier(stored: StoredRecord) -> RecordId | None:
    """The record of which this one is a retry or a replay."""
    decoded = stored.decoded_headers
    text = decoded.get(record_headers.RETRY_OF) or decoded.get(record_headers.REPLAY_OF)
    return None if text is None else record_headers.parse_record_id(text)


def _left(settings: Settings, partitions: list[Partition]) -> dict[int, OffsetSet]:
    """Return which records left the parked topic, from the offsets of the relay's group."""
    group = relay_group(settings)
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
