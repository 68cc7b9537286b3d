"""Taking records in: as many as there is room for, parsed, and queued for batches."""

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
    """Moves records from the source to the queue. Owned by the thread that owns the consumer.

    Args:
        max_queued: records; what is queued behind so many is parsed again when its turn comes.
    """

    def __init__(
        self, source: RecordSource, batcher: Batcher, control: AdmissionControl, max_queued: int
    ) -> None:
        self._source = source
        self._batcher = batcher
        self._control = control
        self._max_queued = max_queued

    def poll(self, now: float) -> list[Record]:
        """New records; none while there is no room for more. Errors as of `RecordSource.poll`."""
        intake = self._control.mode(self._batcher.full_batches, self._source.held_bytes, now)
        if intake is IntakeMode.OPEN:
            self._source.resume()
        elif intake is IntakeMode.PAUSE:
            self._source.pause()
        elif intake is IntakeMode.WAIT:
            time.sleep(POLL_S / 4)
            return []
        return self._source.poll(POLL_RECORDS, POLL_S)

    def admit(self, records: list[Record]) -> None:
        """Parse records; queue those that are recipients, end those that cannot be."""
        queued = []
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
            if len(record.value or b"") > _LARGE_BYTES or len(self._batcher) > self._max_queued:
                record.forget_event()  # it will not be needed soon, or takes much
            queued.append(record)
        self._batcher.add(queued)
