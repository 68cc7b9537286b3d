"""From records to what they add to each campaign's counts. Pure.

Everything about a record is read from its value and its headers alone, so that folding it again
adds the same.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple, Protocol

import orjson
from pydantic_core import from_json

from streamer.model.reasons import Status
from streamer.model.record import Carrier, header_list
from streamer.model.wire import REASON, SOURCE_TOPIC
from streamer.progress.counts import DEAD, PARKED, RECEIVED, ended_word

_ID = re.compile(r"[A-Za-z0-9._:@-]{1,128}\Z")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\Z")
_REASON = re.compile(r"[a-z_]{1,64}\Z")


class Cursor(StrEnum):
    """A way of reading a topic. The parked topic is read twice: once as records come, once as
    they leave."""

    OUTCOMES = "outcomes"
    DEAD_LETTERS = "dead_letters"
    RECIPIENTS = "recipients"
    PARKED = "parked"
    LEFT = "left"


class Place(NamedTuple):
    """What has a position of its own."""

    cursor: Cursor
    topic: str
    partition: int


class CampaignKey(NamedTuple):
    """A campaign that a record names."""

    organization: str
    campaign_id: str


class RecordLike(Carrier, Protocol):
    """What is looked at of a record: confluent_kafka's `Message` is one."""

    def offset(self) -> int | None:
        """Its offset."""

    def value(self) -> bytes | None:
        """Its value."""


class Chunk(NamedTuple):
    """Successive records of a partition.

    Attributes:
        end: the position behind them: all committed records from the first to here are there.
    """

    records: Sequence[RecordLike]
    end: int


@dataclass(slots=True)
class Share:
    """What a chunk adds to one campaign's counts.

    Attributes:
        start: the offset of the first record of the campaign.
        end: the offset behind the last one.
    """

    start: int
    end: int
    increments: dict[str, int] = field(default_factory=dict)
    first: str | None = None
    last: str | None = None

    def add(self, word: str, count: int, end: int) -> None:
        """Add a record."""
        self.increments[word] = self.increments.get(word, 0) + count
        self.end = end

    def happened(self, time: str) -> None:
        """Take the time of an outcome; times of one form compare as text."""
        if self.first is None or time < self.first:
            self.first = time
        if self.last is None or time > self.last:
            self.last = time


Shares = dict[CampaignKey, Share]


def fold(cursor: Cursor, records: Iterable[RecordLike]) -> Shares:
    """What the records add to each campaign that they name."""
    if cursor is Cursor.OUTCOMES:
        return _fold_outcomes(records)
    word_of, count = _WORDS[cursor]
    shares: Shares = {}
    for record in records:
        word = word_of(record)
        key = None if word is None else named_campaign(record.value())
        if word is None or key is None:
            continue
        offset = record.offset() or 0
        share = shares.get(key)
        if share is None:
            share = shares[key] = Share(offset, offset + 1)
        share.add(word, count, offset + 1)
    return shares


def named_campaign(value: bytes | None) -> CampaignKey | None:
    """The campaign that a record's value names, be it a recipient event otherwise or not."""
    event = _read_json(value)
    if not isinstance(event, dict):
        return None
    organization, campaign_id = event.get("organization_id"), event.get("campaign_id")
    if not isinstance(organization, str) or not isinstance(campaign_id, str):
        return None
    return _key(organization, campaign_id)


def _fold_outcomes(records: Iterable[RecordLike]) -> Shares:
    shares: Shares = {}
    words: dict[tuple[str, str | None], str] = {}
    for record in records:
        outcome = _read_json(record.value())
        if not isinstance(outcome, dict):
            continue
        organization, campaign_id = outcome.get("organization_id"), outcome.get("campaign_id")
        status, reason = outcome.get("status"), outcome.get("reason")
        if not (
            type(organization) is str
            and type(campaign_id) is str
            and type(status) is str
            and (reason is None or type(reason) is str)
        ):
            continue
        word = words.get((status, reason))
        if word is None:
            if status not in _STATUSES or not (reason is None or _REASON.match(reason)):
                continue
            word = words[status, reason] = ended_word(status, reason)
        key = _key(organization, campaign_id)
        if key is None:
            continue
        offset = record.offset() or 0
        share = shares.get(key)
        if share is None:
            share = shares[key] = Share(offset, offset + 1)
        share.add(word, 1, offset + 1)
        time = outcome.get("occurred_at")
        # What lies between two times of the right form, and has their length, cannot move them.
        if (
            type(time) is str
            and not (share.first is not None and share.last and share.first <= time <= share.last)
            and _TIME.match(time)
        ):
            share.happened(time)
    return shares


def _read_json(value: bytes | None) -> object:
    """The value, read as the worker reads it; None if it is no JSON."""
    if not value:
        return None
    try:
        read: object = orjson.loads(value)
    except orjson.JSONDecodeError:
        # The parser of events takes a little more than this one, as NaN: what it read is
        # received, or the campaign would have more endings than inputs.
        try:
            read = from_json(value)
        except ValueError:
            return None
    return read


@lru_cache(maxsize=65_536)
def _key(organization: str, campaign_id: str) -> CampaignKey | None:
    if _ID.match(organization) and _ID.match(campaign_id):
        return CampaignKey(organization, campaign_id)
    return None


def _received(record: RecordLike) -> str | None:
    """None for a record that came back from the parked topic: it was received before."""
    return None if SOURCE_TOPIC in _headers(record) else RECEIVED


def _dead(record: RecordLike) -> str:
    reason = _headers(record).get(REASON)
    text = reason.decode("ascii", "replace") if isinstance(reason, bytes) else ""
    return ended_word(DEAD, text if _REASON.match(text) else None)


def _parked(record: RecordLike) -> str:
    del record
    return PARKED


def _headers(record: RecordLike) -> dict[str, str | bytes | None]:
    """The headers by name, of several of one name the last: ours are behind the record's own."""
    return dict(header_list(record) or ())


_STATUSES = frozenset(status.value for status in Status)
_WORDS: dict[Cursor, tuple[Callable[[RecordLike], str | None], int]] = {
    Cursor.RECIPIENTS: (_received, 1),
    Cursor.DEAD_LETTERS: (_dead, 1),
    Cursor.PARKED: (_parked, 1),
    Cursor.LEFT: (_parked, -1),
}
