"""Filling a batch with the mails of queued records; who gets none ends here."""

import time
from functools import partial

from streamer import metrics
from streamer.flow.batcher import Batcher
from streamer.ledger.probe import Probe, Probes
from streamer.mail.compose import Composer, RenderError, TooLargeError
from streamer.model.address import sender_domain
from streamer.model.campaign import Message
from streamer.model.reasons import Reason
from streamer.model.record import Outcome, Record
from streamer.settings import Batch as BatchSettings
from streamer.worker.batch import Batch
from streamer.worker.bulk import BulkStop
from streamer.worker.decisions import Decisions, first_expiry
from streamer.worker.waiting import Waiting
from streamer.worker.work import Work

_MOST_OTHERS = 3
_FILL_S = 1.0
_SPARE = 16


def with_spare(room: int) -> int:
    """How many records to take for so many places: a few drop out, and to look for others
    afterwards takes as many calls to Redis as it took for all."""
    return room + room // _SPARE + 1


class Filler:
    """Fills batches; may be used from any thread, each for a batch of its own."""

    def __init__(
        self,
        settings: BatchSettings,
        batcher: Batcher,
        probes: Probes,
        decisions: Decisions,
        composer: Composer,
        bulk: BulkStop,
        waiting: Waiting,
    ) -> None:
        self._settings = settings
        self._batcher = batcher
        self._probes = probes
        self._decisions = decisions
        self._composer = composer
        self._bulk = bulk
        self._waiting = waiting

    def begin(self, organization: str, records: list[Record]) -> Work:
        """Begin a batch with records of the organization, and fill it as far as it goes.

        Raises:
            StoppedError: the worker stops.
            LedgerLostError: the ledger forgot: nothing may be sent.
        """
        work = Work(Batch(organization, self._settings.size, self._settings.max_bytes))
        self.screen(work, records)
        self.fill(work)
        return work

    def fill(self, work: Work) -> None:
        """Fill the batch after filtering: who drops out is replaced while others wait.

        Not for ever: of a list that is produced again nearly all are duplicates, and who is new
        on it would wait until all of it was looked at.
        """
        batch = work.batch
        most_others = _MOST_OTHERS * self._settings.size
        until = time.monotonic() + _FILL_S
        while batch.room and len(work.others) < most_others and time.monotonic() < until:
            records = self._batcher.take(batch.organization, with_spare(batch.room))
            if not records:
                return
            self.screen(work, records)

    def may_still_fill(self, work: Work) -> bool:
        """Whether the batch has room, and nobody in it has waited for long enough."""
        records = work.batch.records
        now = time.monotonic()
        # Where mails come from several domains, what is queued of the others cannot fill it.
        return bool(
            records
            and work.batch.room
            and not work.others
            and not any(self._batcher.overdue(record, now) for record in records)
        )

    def screen(self, work: Work, records: list[Record]) -> None:
        """Render the mails of those who may get one; end the others, or adopt their batches."""
        batch = work.batch
        self.look_at_ended(work)
        found = self._probe(batch.organization, records)
        work.campaigns |= found.campaigns
        decisions = self._decisions.for_batch(batch.organization, found)
        now = time.time()
        for position, record in enumerate(records):
            if not batch.room:
                self._batcher.put_back(batch.organization, records[position:])
                return
            claim = found.claims.get(position)
            if claim is not None and claim.is_of(record):
                work.claimed(record, claim, now)
                continue
            if record.address is not None and batch.holder(record) is not None:
                work.twins.append(record)
                continue
            message = decisions.message(position, record)
            if not isinstance(message, Message):
                work.end(record, message, now)
                continue
            sender = sender_domain(message.from_)
            if batch.records and sender != batch.sender:
                work.others.append(record)
                continue
            batch.sender = sender
            try:
                mail = self._composer.compose(record.known_event, record.known_address, message)
            except RenderError as error:
                work.end(record, Outcome.of(Reason.RENDER_ERROR, str(error)), now)
            except TooLargeError as error:
                work.end(record, Outcome.of(Reason.TOO_LARGE, str(error)), now)
            else:
                expires_at = first_expiry(record.known_event, message)
                record.forget_event()
                if not batch.add(record, mail, expires_at):
                    self._batcher.put_back(batch.organization, records[position:])
                    return

    def look_at_ended(self, work: Work) -> None:
        """Pause a campaign most of whose mails fail, before more of them are rendered."""
        self._bulk.ended(work.ended, work.campaigns)
        work.ended.clear()

    def _probe(self, organization: str, records: list[Record]) -> Probe:
        with metrics.SUPPRESSION_CHECK.time():
            return self._waiting.for_redis(partial(self._probes.of, organization, records))
