"""A batch's life: fill, pin, send, resolve; and adopting one that was pinned before."""

import secrets
import time
from collections.abc import Callable
from functools import partial
from itertools import count

from streamer import metrics
from streamer.flow.batcher import Batcher
from streamer.ledger.claims import Claims, Conflict, Pinned, TakenOverError
from streamer.ledger.connection import Client
from streamer.ledger.holds import BatchRef
from streamer.ledger.limiter import Held, Slot
from streamer.ledger.probe import Probe, Probes
from streamer.mail.compose import Composer, RenderError, TooLargeError
from streamer.model.address import sender_domain
from streamer.model.parking import Scope
from streamer.model.payload import Payload
from streamer.model.reasons import Reason
from streamer.model.record import Outcome, Parked, Record
from streamer.model.result import BatchResult
from streamer.provider.accounts import Accounts
from streamer.settings import Settings
from streamer.worker.batch import Batch, BatchState, new_id
from streamer.worker.bulk import BulkStop
from streamer.worker.decisions import Decisions, NotMailed
from streamer.worker.holding import Holding
from streamer.worker.pinned import PinnedBatch, adopt
from streamer.worker.sending import LaidDown, Sender
from streamer.worker.slots import Slots
from streamer.worker.underway import Finished, Underway, Unpinned
from streamer.worker.waiting import Waiting, deadline_clock
from streamer.worker.work import Work, end_all

Checkpoint = Callable[[str], None]
"""Called at named points of a batch's life; tests of crashes kill the process there."""

_STALE_S = 0.5
_MOST_OTHERS = 3
_FILL_S = 1.0
_SPARE = 16
_OTHER_OWNER_S = 10.0
"""How long a batch is another owner's without a result until it is taken over from that one."""
_LOOK_EVERY_S = 0.25


def with_spare(room: int) -> int:
    """How many records to take for so many places: a few drop out, and to look for others
    afterwards takes as many calls to Redis as it took for all."""
    return room + room // _SPARE + 1


class Delivery:
    """Takes batches of queued records to their endings. `run` is called on many threads."""

    def __init__(
        self,
        settings: Settings,
        client: Client,
        probes: Probes,
        claims: Claims,
        composer: Composer,
        accounts: Accounts,
        slots: Slots,
        sender: Sender,
        holding: Holding,
        batcher: Batcher,
        waiting: Waiting,
        checkpoint: Checkpoint,
    ) -> None:
        self._settings = settings
        self._claims = claims
        self._probes = probes
        self._composer = composer
        self._accounts = accounts
        self._slots = slots
        self._sender = sender
        self._holding = holding
        self._decisions = Decisions(client, accounts, holding, waiting)
        self._bulk = BulkStop(settings.breaker, client, waiting)
        self._batcher = batcher
        self._waiting = waiting
        self._checkpoint = checkpoint
        self._underway = Underway()

    def run(self, organization: str, records: list[Record]) -> None:
        """Fill one batch with records of the organization and see it through.

        Args:
            records: as many as fit, and spare ones, taken from the queue; those that are not
                needed go back, and if too many drop out more are taken.

        Raises:
            StoppedError: the worker stops; what is not decided stays undecided.
            LedgerLostError: the ledger forgot: nothing may be sent.
        """
        batch = Batch(organization, self._settings.batch.size, self._settings.batch.max_bytes)
        work = Work(batch)
        self._screen(work, records)
        self._fill(work)
        if self._may_still_fill(work):
            self._batcher.put_back(organization, batch.empty() + work.twins + work.others)
            work.twins.clear()
            work.others.clear()
        if batch.records:
            self._deliver(work)
        self._batcher.put_back(organization, work.twins + work.others)
        self._adopt_all(work)
        self._look_at_ended(work)

    def oldest_pin(self) -> float | None:
        """When the oldest batch that is pinned and not resolved was taken up; monotonic clock."""
        return self._underway.oldest()

    # Filling

    def _fill(self, work: Work) -> None:
        """Fill the batch after filtering: who drops out is replaced while others wait.

        Not for ever: of a list that is produced again nearly all are duplicates, and who is new
        on it would wait until all of it was looked at.
        """
        batch = work.batch
        most_others = _MOST_OTHERS * self._settings.batch.size
        until = time.monotonic() + _FILL_S
        while batch.room and len(work.others) < most_others and time.monotonic() < until:
            records = self._batcher.take(batch.organization, with_spare(batch.room))
            if not records:
                return
            self._screen(work, records)

    def _may_still_fill(self, work: Work) -> bool:
        records = work.batch.records
        now = time.monotonic()
        # Where mails come from several domains, what is queued of the others cannot fill it.
        return bool(
            records
            and work.batch.room
            and not work.others
            and not any(self._batcher.overdue(record, now) for record in records)
        )

    def _screen(self, work: Work, records: list[Record]) -> None:
        """Render the mails of those who may get one; end the others, or adopt their batches."""
        batch = work.batch
        self._look_at_ended(work)
        found = self._probe(batch.organization, records)
        work.resumed |= {id_: campaign.resumed for id_, campaign in found.campaigns.items()}
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
            try:
                message = decisions.message(position, record)
                sender = sender_domain(message.from_)
                if batch.records and sender != batch.sender:
                    work.others.append(record)
                    continue
                batch.sender = sender
                mail = self._composer.compose(record.known_event, record.known_address, message)
            except NotMailed as reason:
                work.end(record, reason.ending, now)
            except RenderError as error:
                work.end(record, Outcome.of(Reason.RENDER_ERROR, str(error)), now)
            except TooLargeError as error:
                work.end(record, Outcome.of(Reason.TOO_LARGE, str(error)), now)
            else:
                record.forget_event()
                if not batch.add(record, mail):
                    self._batcher.put_back(batch.organization, records[position:])
                    return

    def _look_at_ended(self, work: Work) -> None:
        """Pause a campaign most of whose mails fail, before more of them are rendered."""
        self._bulk.ended(work.ended, work.resumed)
        work.ended.clear()

    def _probe(self, organization: str, records: list[Record]) -> Probe:
        with metrics.SUPPRESSION_CHECK.time():
            return self._waiting.for_redis(partial(self._probes.of, organization, records))

    # Pinning

    def _pin(self, work: Work, account: str) -> PinnedBatch | None:
        """Pin the batch, without those who turn out to be suppressed or claimed.

        None if nobody is left, or another worker has adopted it meanwhile.
        """
        batch = work.batch
        while batch.records:
            self._checkpoint("before_pin")
            # A name of its own for each body that is tried: what was pinned never changes, and
            # the reply that says so may be lost.
            batch.id = new_id()
            batch.payload = Payload(batch.mails)
            ref = BatchRef(batch.organization, batch.id)
            pin = partial(
                self._claims.pin, *ref, account, batch.sender, batch.records, batch.payload
            )
            asked_at = deadline_clock()
            try:
                with metrics.PIN.time():
                    answer = self._waiting.for_redis(pin)
            except TakenOverError:
                work.adoptions[batch.id] = list(zip(batch.empty(), count()))
                return None
            if isinstance(answer, Pinned):
                self._checkpoint("after_pin")
                batch.state = BatchState.PINNED
                return PinnedBatch(ref, account, batch.sender, batch.payload, "", asked_at)
            self._drop_conflicts(work, answer)
            self._fill(work)
        return None

    def _drop_conflicts(self, work: Work, conflict: Conflict) -> None:
        items = conflict.suppressed | conflict.claims.keys()
        records = work.batch.records
        work.batch.remove(items)
        now = time.time()
        for item in items:
            record = records[item]
            claim = conflict.claims.get(item)
            if claim is None:
                record.end(Outcome.of(Reason.SUPPRESSED), now)
            else:
                work.claimed(record, claim, now)

    # Delivering

    def _deliver(self, work: Work) -> None:
        """Pin the batch and see it through, or park it."""
        batch = work.batch
        account = self._accounts.of(batch.organization)
        if account is None:
            raise AssertionError(f"records of {batch.organization} are parked, not batched")
        asked = time.monotonic()
        # The slot comes first: what is pinned, with suppression checked in that act, is handed
        # over at once and not after a wait.
        slot = self._slots.take(account, batch.sender)
        if isinstance(slot, Held):
            parked = Parked(Scope.of_hold(account, slot.domain))
            now = time.time()
            for record in batch.empty():
                record.end(parked, now)
            return
        if time.monotonic() - asked > _STALE_S:
            # Campaigns were paused meanwhile, or have expired.
            self._screen(work, batch.empty())
        pinned = self._pin(work, account)
        if pinned is not None:
            self._deliver_pinned(work, pinned, slot)

    def _deliver_pinned(self, work: Work, pinned: PinnedBatch, slot: Slot) -> None:
        batch = work.batch
        work.end_twins(time.time())
        batch.state = BatchState.SENDING
        result = self._underway.once(batch.id, partial(self._send_own, pinned, slot))
        batch.state = BatchState.RESOLVED
        self._end(work, batch.id, list(zip(batch.records, count())), result)

    def _send_own(self, pinned: PinnedBatch, slot: Slot) -> Finished:
        try:
            return self._send_and_resolve(pinned, slot)
        except TakenOverError:
            return self._finish(pinned.ref, is_others=True)

    def _end(
        self, work: Work, batch_id: str, claimed: list[tuple[Record, int]], result: Finished
    ) -> None:
        records = [record for record, _ in claimed]
        if result is Unpinned.UNPINNED:
            self._batcher.put_back(work.batch.organization, records)
        else:
            end_all(claimed, batch_id, result)
            work.ended += records

    def _adopt_all(self, work: Work) -> None:
        """End records by the batches that carried them before this worker had them."""
        for batch_id, claimed in work.adoptions.items():
            ref = BatchRef(work.batch.organization, batch_id)
            result = self._underway.once(batch_id, partial(self._finish, ref))
            self._end(work, batch_id, claimed, result)

    def _finish(self, ref: BatchRef, is_others: bool = False) -> Finished:
        """See a batch through that is in the ledger.

        Args:
            is_others: whether another owner is at it: the result is waited for then, and the
                batch is taken over only if that one does not get on.
        """
        patience = time.monotonic() + _OTHER_OWNER_S
        while True:
            stored = self._waiting.for_redis(partial(self._claims.load, *ref))
            if stored is None:
                return None
            if stored.unpinned:
                return Unpinned.UNPINNED
            if stored.payload is None:
                return stored.result
            scope = self._holding.scope_of(stored.account, stored.sender)
            if scope is not None:  # nobody is the batch's owner meanwhile
                return Parked(scope)
            if stored.laid_down:
                # Resend has nothing of it: who was suppressed, or cancelled, since is not mailed.
                self._waiting.for_redis(partial(self._claims.unpin, *ref, stored))
                continue
            if is_others and time.monotonic() < patience:
                self._waiting.sleep(_LOOK_EVERY_S)
                continue
            try:
                batch = self._take_over(ref)
                if batch is not None:
                    return self._send_and_resolve(batch, slot=None)
            except TakenOverError:
                is_others, patience = True, time.monotonic() + _OTHER_OWNER_S

    def _take_over(self, ref: BatchRef) -> PinnedBatch | None:
        """Adopt a batch; None if it has a result, or is gone."""
        owner = secrets.token_hex(8)
        return self._waiting.for_redis(partial(adopt, self._claims, ref, owner))

    def _send_and_resolve(
        self, batch: PinnedBatch, slot: Slot | None
    ) -> BatchResult | Parked | None:
        result = self._sender.send(batch, slot)
        self._checkpoint("after_post")
        if isinstance(result, LaidDown):
            if result.untouched:
                self._waiting.for_redis(partial(self._claims.lay_down, *batch.ref, batch.owner))
            return result.parked
        return self._waiting.for_redis(
            partial(self._claims.resolve, *batch.ref, batch.owner, result)
        )
