"""Reducing a result that Kafka rejects until it is accepted. Pure."""

from dataclasses import replace

from streamer.model.detail import bounded
from streamer.model.reasons import Reason
from streamer.model.record import DeadLetter, Outcome, Parked, Record


def shrink(record: Record) -> str | None:
    """Drop the least important part of a record's result.

    Use it for a result that was rejected on its own, not as one of several. In the end little
    more is left than where the original record can be read, so no record blocks its partition.

    Returns:
        What was dropped, in words; None if nothing more can be dropped.
    """
    resolution = record.resolution
    if isinstance(resolution, Parked):
        # The record cannot be parked. If it was pinned, its batch continues without it.
        reason = Reason.PROVIDER_ERROR if resolution.maybe_pinned else Reason.TOO_LARGE
        detail = f"waiting for {resolution.scope}, but the parked topic rejects the record"
        record.resolve(Outcome.of(reason, detail), record.decided_at)
        return "the wait"
    if isinstance(resolution, DeadLetter):
        return _of_dead_letter(record, resolution)
    if isinstance(resolution, Outcome):
        return _of_outcome(record, resolution)
    return None


def _of_outcome(record: Record, resolution: Outcome) -> str | None:
    email = bounded(record.email)
    if resolution.detail is not None or email != record.email:
        record.email = email
        record.resolve(resolution._replace(detail=None), record.decided_at)
        return "the detail"
    return _key(record)


def _of_dead_letter(record: Record, resolution: DeadLetter) -> str | None:
    if record.value is None and record.headers is None:
        return _key(record)
    if resolution.detail:
        record.resolve(replace(resolution, detail=""), record.decided_at)
        return "the detail"
    if record.headers is not None:
        record.headers = None
        record.resolve(resolution, record.decided_at)
        return "the headers"
    detail = f"the value of {len(record.value or b''):,} bytes was rejected by Kafka"
    record.value = None
    record.resolve(replace(resolution, detail=detail), record.decided_at)
    return "the value"


def _key(record: Record) -> str | None:
    if record.key is None or record.resolution is None:
        return None
    record.key = None
    record.resolve(record.resolution, record.decided_at)
    return "the key"
