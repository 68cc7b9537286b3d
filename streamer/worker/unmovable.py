"""Resolves a parked record that Kafka refuses to write to the input or to the parked topic's tail.

A record may be as large as the input allows, and the headers with its original coordinates come
on top.
"""

import time

from streamer.ledger.claim_reader import find
from streamer.ledger.connection import Client
from streamer.model.address import InvalidAddressError, normalise
from streamer.model.event import DeadEventError, parse
from streamer.model.reasons import Reason
from streamer.model.record import DeadLetter, Outcome, Record, Resolution
from streamer.model.wire import replaced_batch, split_headers
from streamer.worker.parked import ParkedRecord


def end_unmovable(copy: ParkedRecord, client: Client, *, is_back: bool) -> Record:
    """Return the record, resolved by an outcome, or by a dead letter if its value is invalid.

    Args:
        is_back: whether the input refuses it; otherwise the parked topic does.

    Raises:
        redis.exceptions.RedisError: Redis cannot be used, so whether the record was pinned is
            unknown.
    """
    own, _ = split_headers(copy.headers)
    record = Record(
        copy.original,
        copy.key,
        copy.value,
        own,
        0.0,
        replaces=replaced_batch(own),
        was_parked=True,
    )
    topic = "input topic" if is_back else "parked topic"
    detail = f"parked for {copy.wait.scope}, and the {topic} rejects the record"
    record.resolve(_resolution(record, client, detail), time.time())
    return record


def _resolution(record: Record, client: Client, detail: str) -> Resolution:
    try:
        record.attach_event(parse(record.value))
    except DeadEventError as error:
        return DeadLetter(error.reason, str(error))
    try:
        record.address = normalise(record.email)
    except InvalidAddressError:
        return Outcome.of(Reason.TOO_LARGE, detail)
    found = find(client, record.organization_id, record.campaign_id, record.address)
    if found is None or not found.claim.is_of(record):
        return Outcome.of(Reason.TOO_LARGE, detail)
    # Its batch goes on without it, and may have been sent already or may still be sent.
    return Outcome.of(Reason.PROVIDER_ERROR, detail)._replace(batch_id=found.claim.batch_id)
