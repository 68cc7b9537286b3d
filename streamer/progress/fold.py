"""Turning records into increments of campaign counts. Pure.

Increments depend only on a record's value and headers, so folding a record again gives the same.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple, Protocol

import orjson
from pydantic_core import from_json

from streamer.kafka.headers import Carrier, header_list
from streamer.model import record_headers
from streamer.model.reasons import Status
from streamer.model.wire import REASON, left_position, split_headers
from streamer.progress.counts import DEAD, PARKED, RECEIVED, ended_word

_ID = re.compile(r"[A-Za-z0-9._:@-]{1,128}\Z")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\Z")
_REASON = re.compile(r"[a-z_]{1,64}\Z")


class Stream(StrEnum):
    """The kind of records in a topic."""

    OUTCOMES = "outcomes"
    DEAD_LETTERS = "dead_letters"
    RECIPIENTS = "recipients"
    PARKED = "parked"


class Cursor(NamedTuple):
    """A partition that is read and has a position of its own: a cursor."""

    stream: Stream
    topic: str
    partition: int


class CampaignKey(NamedTuple):
    """The ids of a campaign named by a record."""

    organization: str
    campaign_id: str


class RecordLike(Carrier, Protocol):
    """The parts of `confluent_kafka.Message` that are used here."""

    def offset(self) -> int | None:
        """Return the offset."""

    def value(self) -> bytes | None:
        """Return the value."""


class Chunk(NamedTuple):
    """Consecutive records of a partition.

    Attributes:
        records: all committed records from the first one up to `end`.
        end: the position after them.
    """

    records: Sequence[RecordLike]
    end: int


@dataclass(slots=True)
class CountDelta:
    """What a chunk adds to one campaign's counts.

    Attributes:
        start: offset of the campaign's first record in the chunk.
        end: offset after its last record.
        increments: amounts to add, by field.
        first: earliest time of an outcome.
        last: latest time of an outcome.
    """

    start: int
    end: int
    increments: dict[str, int] = field(default_factory=dict)
    first: str | None = None
    last: str | None = None

    def add(self, word: str, count: int, end: int) -> None:
        """Add a record's increment."""
        self.increments[word] = self.increments.get(word, 0) + count
        self.end = end

    def happened(self, time: str) -> None:
        """Include the time of an outcome; the fixed format makes times comparable as text."""
        if self.first is None or time < self.first:
            self.first = time
        if self.last is None or time > self.last:
            self.last = time


CountDeltas = dict[CampaignKey, CountDelta]
Words = tuple[tuple[str, int], ...]

_FROM_THE_START: Mapping[int, int] = {}


def fold(
    cursor: Cursor, records: Iterable[RecordLike], parked_from: Mapping[int, int] = _FROM_THE_START
) -> CountDeltas:
    """Return what the records add to each campaign that they name.

    Args:
        cursor: the cursor they were read from.
        records: the records, in order.
        parked_from: by partition of the parked topic, the offset from which its records are
            counted (0 if absent). The return of an earlier record is ignored, since its parking
            was never counted.
    """
    if cursor.stream is Stream.OUTCOMES:
        return _fold_outcomes(records, parked_from)
    words_of = _WORDS[cursor.stream]
    deltas: CountDeltas = {}
    for record in records:
        words = words_of(record, cursor, parked_from)
        key = named_campaign(record.value()) if words else None
        if key is None:
            continue
        offset = record.offset() or 0
        delta = deltas.get(key)
        if delta is None:
            delta = deltas[key] = CountDelta(offset, offset + 1)
        for word, count in words:
            delta.add(word, count, offset + 1)
    return deltas


def named_campaign(value: bytes | None) -> CampaignKey | None:
    """Return the campaign that a value names, even if it is not a valid recipient event."""
    event = _read_json(value)
    if not isinstance(event, dict):
        return None
    organization, campaign_id = event.get("organization_id"), event.get("campaign_id")
    if not isinstance(organization, str) or not isinstance(campaign_id, str):
        return None
    return _key(organization, campaign_id)


def _fold_outcomes(records: Iterable[RecordLike], parked_from: Mapping[int, int]) -> CountDeltas:
    deltas: CountDeltas = {}
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
        delta = deltas.get(key)
        if delta is None:
            delta = deltas[key] = CountDelta(offset, offset + 1)
        delta.add(word, 1, offset + 1)
        # Who ended where it was parked, as Kafka did not take it back, was not mailed for sure,
        # nor passed over. Of all others the headers, which they lack, need not be looked at.
        if status not in _ELSEWHERE:
            for left, count in _left(split_headers(header_list(record))[1], parked_from):
                delta.add(left, count, offset + 1)
        time = outcome.get("occurred_at")
        # A time between first and last need not be validated, since it changes neither.
        if (
            type(time) is str
            and not (delta.first is not None and delta.last and delta.first <= time <= delta.last)
            and _TIME.match(time)
        ):
            delta.happened(time)
    return deltas


def _read_json(value: bytes | None) -> object:
    """Parse the value as the worker does; None if it is not JSON."""
    if not value:
        return None
    try:
        read: object = orjson.loads(value)
    except orjson.JSONDecodeError:
        # The event parser accepts slightly more than orjson, such as NaN. Such a record must
        # count as received, or the campaign would have more results than inputs.
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


def _received(record: RecordLike, cursor: Cursor, parked_from: Mapping[int, int]) -> Words:
    """Count an input record as received, or as unparked if it returned from the parked topic.

    As in the worker, a record is a return if its headers name this topic as the original one.
    """
    headers = header_list(record)
    if not headers:
        return _RECEIVED
    _, decoded = split_headers(headers)
    first = record_headers.source_id(decoded)
    is_new = first is None or first.topic != cursor.topic
    return _RECEIVED if is_new else _left(decoded, parked_from)


def _parked(record: RecordLike, cursor: Cursor, parked_from: Mapping[int, int]) -> Words:
    """Count a parked record, unless it was only moved within the parked topic."""
    del cursor
    _, decoded = split_headers(header_list(record))
    left = _left(decoded, parked_from)
    return () if left else _PARKED


def _left(decoded: dict[str, str], parked_from: Mapping[int, int]) -> Words:
    left = left_position(decoded)
    if left is None:
        return ()
    partition, offset = left
    return _UNPARKED if offset >= parked_from.get(partition, 0) else ()


def _dead(record: RecordLike, cursor: Cursor, parked_from: Mapping[int, int]) -> Words:
    """One that ended where it was parked left that place."""
    del cursor
    headers = header_list(record) or []
    reason = dict(headers).get(REASON)
    text = reason.decode("ascii", "replace") if isinstance(reason, bytes) else ""
    word = ended_word(DEAD, text if _REASON.match(text) else None)
    return ((word, 1), *_left(split_headers(headers)[1], parked_from))


_RECEIVED: Words = ((RECEIVED, 1),)
_PARKED: Words = ((PARKED, 1),)
_UNPARKED: Words = ((PARKED, -1),)
_ELSEWHERE = (Status.SENT, Status.SKIPPED)
_STATUSES = frozenset(status.value for status in Status)
_WORDS: dict[Stream, Callable[[RecordLike, Cursor, Mapping[int, int]], Words]] = {
    Stream.RECIPIENTS: _received,
    Stream.DEAD_LETTERS: _dead,
    Stream.PARKED: _parked,
}
