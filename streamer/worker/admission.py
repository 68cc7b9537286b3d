"""Admits records under backpressure: polls, parses, and queues them for batches."""

import time

from streamer.flow.admission import AdmissionControl, IntakeMode
from streamer.flow.batcher import Batcher
from streamer.model.address import InvalidAddressError, normalise
from streamer.model.event import DeadEventError, parse
from streamer.model.record import DeadLetter, Record
from streamer.worker.source import RecordSource

POLL_RECORDS = 200
POLL_S = 0.02
_LARGE_BYTES = 8_192


class Admission:
    """Moves records from the source to the queue. Owned by the consumer's thread.

    Args:
        max_queued: records queued beyond this number drop their parsed event, and are parsed
            again when they are batched.
    """

    def __init__(
        self, source: RecordSource, batcher: Batcher, control: AdmissionControl, max_queued: int
    ) -> None:
        self._source = source
        self._batcher = batcher
        self._control = control
        self._max_queued = max_queued

    def poll(self, now: float) -> list[Record]:
        """Poll for new records; empty while at capacity. Raises what `RecordSource.poll` does."""
        intake = self._control.mode(self._batcher.full_batches, self._source.held_bytes, now)
        if intake is IntakeMode.PAUSE or self._source.is_ahead:
            self._source.pause()
        elif intake is IntakeMode.OPEN:
            self._source.resume()
        elif intake is IntakeMode.WAIT:
            time.sleep(POLL_S / 4)
            return []
        return self._source.poll(POLL_RECORDS, POLL_S)

    def admit(self, records: list[Record]) -> None:
        """Parse and queue records; resolve as dead letters those that cannot be parsed."""
        queued = []
        is_crowded = len(self._batcher) > self._max_queued
        for record in records:
            try:
                event = parse(record.value)
            except DeadEventError as error:
                record.resolve(DeadLetter(error.reason, str(error)), time.time())
                continue
            record.attach_event(event)
            try:
                record.address = normalise(event.email)
            except InvalidAddressError as error:
                record.address_error = str(error)
            if is_crowded or len(record.value or b"") > _LARGE_BYTES:
                record.forget_event()  # large, or not needed soon
            queued.append(record)
        self._batcher.add(queued)
