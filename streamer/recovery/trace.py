"""The history of one recipient of a campaign, from all topics and the ledger."""

from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from pydantic import JsonValue

from streamer.flow.gone import Gone
from streamer.kafka.offsets import GroupOffsets, Partition
from streamer.kafka.reading import Reader, ReadError, Stored
from streamer.ledger import claim_reader, suppression
from streamer.ledger.claim_reader import Holding
from streamer.ledger.connection import Client
from streamer.model import marks
from streamer.model.address import InvalidAddressError, normalise
from streamer.model.campaign import CampaignName
from streamer.model.outcome import read_names, same_address
from streamer.model.published import PublishedOutcome
from streamer.model.record import Coordinates
from streamer.model.wire import PARKED_FOR, PARKED_UNTIL
from streamer.recovery.dead_letters import read_letter
from streamer.recovery.outcomes import Told
from streamer.settings import Settings


class Who(NamedTuple):
    """A recipient, given by id or address."""

    recipient_id: str | None
    address: str | None
    """The address, as returned by `same_address`."""

    def is_of(self, recipient_id: str | None, email: str | None) -> bool:
        """Whether this id and address belong to the recipient."""
        if self.recipient_id is not None:
            return recipient_id == self.recipient_id
        return email is not None and same_address(email) == self.address


class Kind(StrEnum):
    """The kind of event, in the order in which events of equal time are shown."""

    INPUT = "input"
    RETURNED = "returned"
    PARKED = "parked"
    DEAD_LETTER = "dead_letter"
    OUTCOME = "outcome"


@dataclass(frozen=True, slots=True)
class Event:
    """A record about the recipient.

    Attributes:
        kind: the kind of event.
        timestamp_ms: the record's timestamp.
        stands_at: the record's topic, partition and offset.
        source: the input record's original ones, shared by all events of one input record.
        facts: further details, depending on the kind.
    """

    kind: Kind
    timestamp_ms: int
    stands_at: Coordinates
    source: Coordinates
    facts: dict[str, JsonValue]


@dataclass(frozen=True, slots=True)
class Standing:
    """The current state of an address in the ledger."""

    address: str
    is_suppressed: bool
    holding: Holding | None


class Story:
    """Collects the history of a recipient.

    Attributes:
        events: the events in chronological order.
        unreadable: number of unreadable outcomes, of any recipient.
    """

    def __init__(self, campaign: CampaignName, who: Who) -> None:
        self.events: list[Event] = []
        self.unreadable = 0
        self._campaign = campaign
        self._who = who
        self._addresses: set[str] = set() if who.address is None else {who.address}

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
        order = list(Kind)
        self.events.sort(key=lambda e: (e.timestamp_ms, order.index(e.kind), e.stands_at))

    def standings(self, client: Client) -> list[Standing]:
        """Return the current ledger state of the recipient's valid addresses."""
        return [
            Standing(
                address,
                suppression.check(client, self._campaign.organization, [address])[0],
                claim_reader.find(client, *self._campaign, address),
            )
            for address in sorted(filter(_is_valid, self._addresses))
        ]

    def _mine(self, records: Iterable[Stored]) -> Iterator[Stored]:
        for stored in records:
            names = read_names(stored.value)
            if names[:2] == self._campaign and self._who.is_of(names.recipient_id, names.email):
                if names.email is not None:
                    self._addresses.add(same_address(names.email))
                yield stored

    def _input(self, stored: Stored) -> Event:
        words = stored.words
        source = marks.source(words)
        attempt = marks.attempt(words)
        facts: dict[str, JsonValue] = {
            "replay_of": words.get(marks.REPLAY_OF),
            "retry_of": words.get(marks.RETRY_OF),
            "attempt": attempt,
        }
        kind = Kind.INPUT if source is None else Kind.RETURNED
        return _event(kind, stored, source or stored.coordinates, facts)

    def _parked(self, reader: Reader, settings: Settings) -> Iterator[Event]:
        topic = settings.topics.parked
        spans = reader.spans(topic)
        left = _left(settings, [(topic, span.partition) for span in spans])
        for stored in self._mine(reader.read(topic, spans, topic)):
            words = stored.words
            _, partition, offset = stored.coordinates
            until = words.get(PARKED_UNTIL, "")
            facts: dict[str, JsonValue] = {
                "parked_for": words.get(PARKED_FOR),
                "parked_until_ms": int(until) if until.isdecimal() else None,
                "is_waiting": offset not in left.get(partition, ()),
            }
            source = marks.source(words) or stored.coordinates
            yield _event(Kind.PARKED, stored, source, facts)

    def _dead(self, records: Iterable[Stored]) -> Iterator[Event]:
        for stored in records:
            letter = read_letter(stored)
            if letter is not None:
                facts: dict[str, JsonValue] = {"reason": letter.reason, "detail": letter.detail}
                yield _event(Kind.DEAD_LETTER, stored, letter.source, facts)

    def _outcomes(self, records: Iterable[Stored]) -> Iterator[Event]:
        told = Told(self._campaign)
        for stored, outcome in told.among(records):
            if self._who.is_of(outcome.recipient_id, outcome.email):
                self._addresses.add(same_address(outcome.email))
                yield _event(Kind.OUTCOME, stored, outcome.coordinates, _said(outcome))
        self.unreadable = told.unreadable


def _all(reader: Reader, topic: str) -> Iterator[Stored]:
    return reader.read(topic, reader.spans(topic), topic)


def _left(settings: Settings, partitions: list[Partition]) -> dict[int, Gone]:
    """Return which records left the parked topic, from the offsets of the relay's group."""
    group = f"{settings.kafka.group_id}.relay"
    with closing(GroupOffsets(settings, group)) as offsets:
        found = offsets.read(partitions)
    try:
        return {p: Gone.read(each.offset, each.metadata) for (_, p), each in found.items()}
    except ValueError as error:  # written by another version
        raise ReadError(f"cannot read the offsets of group {group}: {error}") from None


def _event(kind: Kind, stored: Stored, source: Coordinates, facts: dict[str, JsonValue]) -> Event:
    return Event(kind, stored.timestamp_ms, stored.coordinates, source, facts)


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
