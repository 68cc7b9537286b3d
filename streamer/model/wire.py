"""Endings as they are written to Kafka: an outcome's value, a dead letter's headers."""

from datetime import UTC, datetime
from functools import lru_cache

import orjson

from streamer.model.record import Coordinates, DeadLetter, Headers, Outcome, Record

SOURCE_TOPIC = "streamer-source-topic"
SOURCE_PARTITION = "streamer-source-partition"
SOURCE_OFFSET = "streamer-source-offset"
PARKED_FOR = "streamer-parked-for"
"""Of a parked record: what it waits for, as `account default` or `campaign acme/spring-26`."""
PARKED_UNTIL = "streamer-parked-until"
"""Of a parked record: when it is tried again at the latest, in ms since 1970, decimal text."""
REASON = "streamer-reason"
DETAIL = "streamer-detail"


def outcome_value(record: Record, outcome: Outcome) -> bytes:
    """The outcome's JSON. The address is the normalised one, or as given if it is invalid."""
    event = record.known_event
    topic, partition, offset = record.coordinates
    return orjson.dumps(
        {
            "organization_id": event.organization_id,
            "campaign_id": event.campaign_id,
            "recipient_id": event.recipient_id,
            "email": record.address if record.address is not None else event.email,
            "status": outcome.status,
            "reason": outcome.reason,
            "detail": outcome.detail,
            "email_id": outcome.email_id,
            "batch_id": outcome.batch_id,
            "attempts": outcome.attempts,
            "occurred_at": _timestamp(record.decided_at),
            "source": {"topic": topic, "partition": partition, "offset": offset},
        }
    )


def dead_letter_headers(record: Record, dead_letter: DeadLetter) -> Headers:
    """The record's own headers, then the reason, the cause and the coordinates."""
    return [
        *(record.headers or ()),
        (REASON, dead_letter.reason.value.encode()),
        (DETAIL, dead_letter.detail.encode()),
        *source_headers(record.coordinates),
    ]


def source_headers(coordinates: Coordinates) -> Headers:
    """Where the record first stood, in decimal text."""
    return [
        (SOURCE_TOPIC, coordinates.topic.encode()),
        (SOURCE_PARTITION, str(coordinates.partition).encode()),
        (SOURCE_OFFSET, str(coordinates.offset).encode()),
    ]


@lru_cache(maxsize=64)  # the members of a batch are decided together
def _timestamp(seconds: float) -> str:
    moment = datetime.fromtimestamp(seconds, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"
