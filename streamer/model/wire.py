"""How results are written to Kafka: outcome values, dead letter and parked headers."""

import re
from datetime import UTC, datetime
from functools import lru_cache

import msgspec

from streamer.model.parking import Scope
from streamer.model.reasons import Reason, Status
from streamer.model.record import DeadLetter, Headers, Outcome, Parked, Record, RecordId

SOURCE_TOPIC = "streamer-source-topic"
SOURCE_PARTITION = "streamer-source-partition"
SOURCE_OFFSET = "streamer-source-offset"
REPLACES = "streamer-replaces"
"""On a retry: the failed batch whose claim it takes over."""
PARKED_FOR = "streamer-parked-for"
"""On a parked record: what it waits for, as `account default` or `campaign acme/spring-26`."""
PARKED_UNTIL = "streamer-parked-until"
"""On a parked record: the latest time of its return, in ms since 1970, as decimal text."""
PARKED_PINNED = "streamer-parked-pinned"
"""On a parked record: it may have been pinned, so that it may have been sent already."""
PARKED_AT = "streamer-parked-at"
"""On a record moved out of the parked topic: its offset there, as `PARTITION/OFFSET`."""
REASON = "streamer-reason"
DETAIL = "streamer-detail"
_BATCH_ID = re.compile(rb"[0-9a-f]{24}")
_OURS = {
    SOURCE_TOPIC,
    SOURCE_PARTITION,
    SOURCE_OFFSET,
    PARKED_FOR,
    PARKED_UNTIL,
    PARKED_PINNED,
    PARKED_AT,
}


class _InputRecord(msgspec.Struct):
    """The input record of an outcome."""

    topic: str
    partition: int
    offset: int


class _OutcomeValue(msgspec.Struct):
    """An outcome as it is written; `published.PublishedOutcome` describes the fields, and checks
    what is read. A struct of its own, as a dict and its JSON take half as long again."""

    organization_id: str
    campaign_id: str
    recipient_id: str
    email: str
    status: Status
    reason: Reason | None
    detail: str | None
    email_id: str | None
    batch_id: str | None
    attempts: int
    occurred_at: str
    source: _InputRecord


_encode = msgspec.json.Encoder().encode


def outcome_value(record: Record, outcome: Outcome) -> bytes:
    """Return the outcome as JSON, with the normalised address, or as given if invalid."""
    # Without `*`, which would copy both: this is done for every record.
    status, reason, detail, email_id, batch_id, attempts = outcome
    topic, partition, offset = record.record_id
    return _encode(
        _OutcomeValue(
            record.organization_id,
            record.campaign_id,
            record.recipient_id,
            record.address if record.address is not None else record.email,
            status,
            reason,
            detail,
            email_id,
            batch_id,
            attempts,
            timestamp(record.decided_at),
            _InputRecord(topic, partition, offset),
        )
    )


def dead_letter_headers(record: Record, dead_letter: DeadLetter) -> Headers:
    """Return the record's headers plus the reason, the detail and the original offset."""
    return [
        *(record.headers or ()),
        (REASON, dead_letter.reason.value.encode()),
        (DETAIL, dead_letter.detail.encode()),
        *source_headers(record.record_id),
    ]


def parked_headers(record: Record, parked: Parked) -> Headers:
    """Return the record's headers plus its original offset and what it waits for."""
    headers = [
        *(record.headers or ()),
        *source_headers(record.record_id),
        (PARKED_FOR, str(parked.scope).encode()),
    ]
    if parked.until_ms is not None:
        headers.append((PARKED_UNTIL, str(parked.until_ms).encode()))
    if parked.maybe_pinned:
        headers.append((PARKED_PINNED, b"1"))
    return headers


def read_parked(decoded: dict[str, str]) -> Parked:
    """Read what a parked record waits for from its decoded headers."""
    until = decoded.get(PARKED_UNTIL, "")
    scope = Scope.read(decoded.get(PARKED_FOR, ""))
    return Parked(scope, int(until) if until.isascii() and until.isdecimal() else None)


def moved_headers(headers: Headers, partition: int, offset: int, *, back: bool) -> Headers:
    """Return the headers for a record moved out of its offset in the parked topic.

    Args:
        headers: those of the parked record.
        partition: its partition in the parked topic.
        offset: its offset there.
        back: whether it returns to the input topic; else it moves within the parked topic.
    """
    of_parking = (PARKED_FOR, PARKED_UNTIL, PARKED_PINNED, PARKED_AT)
    dropped = of_parking if back else (PARKED_AT,)
    kept = [header for header in headers if header[0] not in dropped]
    return [*kept, left_header(partition, offset)]


def left_header(partition: int, offset: int) -> tuple[str, bytes]:
    """Of what takes the place of a parked record: which place in the parked topic it left."""
    return PARKED_AT, f"{partition}/{offset}".encode()


def split_headers(headers: Headers | None) -> tuple[Headers | None, dict[str, str]]:
    """Split headers into the producer's, and by name those for original offset and parking."""
    if not headers:
        return None, {}
    ours = {
        name: value.decode(errors="replace")
        for name, value in headers
        if name in _OURS and isinstance(value, bytes)
    }
    return [header for header in headers if header[0] not in _OURS] or None, ours


def replaced_batch(headers: Headers | None) -> str:
    """Return the batch whose claim a retry takes over, or "" if there is none."""
    for name, value in headers or ():
        if name == REPLACES and isinstance(value, bytes) and _BATCH_ID.fullmatch(value):
            return value.decode()
    return ""


def source_headers(record_id: RecordId) -> Headers:
    """Return the headers with the original topic, partition and offset."""
    return [
        (SOURCE_TOPIC, record_id.topic.encode()),
        (SOURCE_PARTITION, str(record_id.partition).encode()),
        (SOURCE_OFFSET, str(record_id.offset).encode()),
    ]


@lru_cache(maxsize=64)  # the records of a batch are resolved together
def timestamp(seconds: float) -> str:
    """Return seconds since 1970 as the time of an outcome: RFC 3339, in UTC, with milliseconds."""
    moment = datetime.fromtimestamp(seconds, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"
