"""Fills batches with the mails of queued records, and resolves records that get no mail."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Protocol

from streamer import metrics
from streamer.flow.batcher import Batcher
from streamer.ledger.campaigns import CampaignProbe
from streamer.ledger.probe import Probe
from streamer.mail.compose import Composer, RenderError, TooLargeError
from streamer.model.address import sender_domain
from streamer.model.campaign import Message
from streamer.model.reasons import Reason
from streamer.model.record import Outcome, Record
from streamer.settings import BatchSettings as BatchSettings
from streamer.worker.assembly import BatchAssembly
from streamer.worker.batch import Batch
from streamer.worker.decisions import Decisions, first_expiry
from streamer.worker.waiter import Waiter

_MAX_OTHERS = 3
_FILL_S = 1.0
_SPARE = 16


class Lookup(Protocol):
    """Looks up records in the ledger; `ledger.probe.Probes` says how."""

    def of(self, organization: str, records: Sequence[Record]) -> Probe: ...


class BulkFailures(Protocol):
    """Learns which records were resolved; `worker.bulk.BulkStop` says what for."""

    def record_resolved(
        self, records: Sequence[Record], probed: Mapping[str, CampaignProbe]
    ) -> None: ...


def with_spare(control: int) -> int:
    """How many records to take for this many places.

    A few records usually drop out, and replacing them costs as many Redis calls as the whole
    batch did.
    """
    return control + control // _SPARE + 1


class Filler:
    """Fills batches. Thread-safe, as long as each thread fills its own batch."""

    def __init__(
        self,
        settings: BatchSettings,
        batcher: Batcher,
        probes: Lookup,
        decisions: Decisions,
        composer: Composer,
        bulk: BulkFailures,
        waiter: Waiter,
    ) -> None:
        self._settings = settings
        self._batcher = batcher
        self._probes = probes
        self._decisions = decisions
        self._composer = composer
        self._bulk = bulk
        self._waiter = waiter
        self._clock = waiter.clock

    def begin(self, organization: str, records: list[Record]) -> BatchAssembly:
        """Start a batch with records of the organization, and fill it as far as possible.

        Raises:
            StoppedError: the worker stops.
            LedgerLostError: the ledger lost data: nothing may be sent.
        """
        assembly = BatchAssembly(Batch(organization, self._settings.size, self._settings.max_bytes))
        self.screen(assembly, records)
        self.fill(assembly)
        return assembly

    def fill(self, assembly: BatchAssembly) -> None:
        """Replace records that dropped out by queued ones, for a limited time.

        When a list is produced again, nearly all of it are duplicates; without the limit, its
        few new recipients would wait until the whole list was screened.
        """
        batch = assembly.batch
        max_other_senders = _MAX_OTHERS * self._settings.size
        until = self._clock.monotonic() + _FILL_S
        while (
            batch.room
            and len(assembly.other_senders) < max_other_senders
            and self._clock.monotonic() < until
        ):
            records = self._batcher.take(batch.organization, with_spare(batch.room))
            if not records:
                return
            self.screen(assembly, records)

    def may_still_fill(self, assembly: BatchAssembly) -> bool:
        """Whether the batch has room, and no record in it is overdue."""
        records = assembly.batch.records
        now = self._clock.monotonic()
        # With several sender domains, the queued records of the others cannot fill it.
        return bool(
            records
            and assembly.batch.room
            and not assembly.other_senders
            and not any(self._batcher.overdue(record, now) for record in records)
        )

    def screen(self, assembly: BatchAssembly, records: list[Record]) -> None:
        """Render the mails of records that may be sent; resolve the others, or note their batches
        for adoption."""
        batch = assembly.batch
        self.check_bulk_failures(assembly)
        found = self._probe(batch.organization, records)
        assembly.campaigns |= found.campaigns
        decisions = self._decisions.for_batch(batch.organization, found)
        now = self._clock.time()
        last, sender = None, ""
        for position, record in enumerate(records):
            if not batch.room:
                self._batcher.put_back(batch.organization, records[position:])
                return
            claim = found.claims.get(position)
            if claim is not None and claim.is_of(record):
                assembly.add_claimed(record, claim, now)
                continue
            if record.address is not None and batch.holder(record) is not None:
                assembly.same_address.append(record)
                continue
            event = record.required_event
            message = decisions.message(position, record, event)
            if not isinstance(message, Message):
                assembly.resolve(record, message, now)
                continue
            if message is not last:
                last, sender = message, sender_domain(message.from_)
            if batch.records and sender != batch.sender:
                assembly.other_senders.append(record)
                continue
            batch.sender = sender
            try:
                address, record_id = record.required_address, record.record_id
                mail = self._composer.compose(event, address, message, record_id)
            except RenderError as error:
                assembly.resolve(record, Outcome.of(Reason.RENDER_ERROR, str(error)), now)
            except TooLargeError as error:
                assembly.resolve(record, Outcome.of(Reason.TOO_LARGE, str(error)), now)
            else:
                expires_at = first_expiry(event, message)
                record.forget_event()
                if not batch.add(record, mail, expires_at):
                    self._batcher.put_back(batch.organization, records[position:])
                    return

    def check_bulk_failures(self, assembly: BatchAssembly) -> None:
        """Pause campaigns that mostly fail, before more of their mails are rendered."""
        self._bulk.record_resolved(assembly.resolved, assembly.campaigns)
        assembly.resolved.clear()

    def _probe(self, organization: str, records: list[Record]) -> Probe:
        with metrics.SUPPRESSION_CHECK.time():
            return self._waiter.retry_redis(partial(self._probes.of, organization, records))
