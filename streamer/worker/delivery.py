"""Delivers batches: fill, pin, send, resolve; or adopt one that was pinned before."""

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from itertools import count
from typing import Protocol

from streamer import metrics
from streamer.flow.batcher import Batcher
from streamer.ledger.claims import Conflict, Pinned, TakenOverError
from streamer.ledger.holds import BatchRef
from streamer.ledger.limiter import Held, Slot
from streamer.model.parking import Scope
from streamer.model.payload import Payload
from streamer.model.reasons import Reason
from streamer.model.record import Outcome, Parked, Record
from streamer.provider.accounts import Accounts
from streamer.worker.assembly import BatchAssembly, resolve_all
from streamer.worker.batch import BatchState, new_id
from streamer.worker.checkpoint import Checkpoint
from streamer.worker.filling import Filler
from streamer.worker.finishing import Finisher
from streamer.worker.pinned import PinnedBatch
from streamer.worker.single_flight import Finished, Unpinned
from streamer.worker.slots import Slots
from streamer.worker.waiter import Waiter

_STALE_S = 0.5


class PinnedBatches(Protocol):
    """What the ledger does to pin a batch; `ledger.claims.Claims` says how."""

    def pin(
        self,
        organization: str,
        batch_id: str,
        account: str,
        sender: str,
        records: Sequence[Record],
        payload: Payload,
        expires_at: datetime | None = None,
    ) -> Pinned | Conflict: ...


class Delivery:
    """Takes batches of queued records to their resolutions. `run` is called on many threads."""

    def __init__(
        self,
        batcher: Batcher,
        filler: Filler,
        finisher: Finisher,
        claims: PinnedBatches,
        accounts: Accounts,
        slots: Slots,
        waiter: Waiter,
        checkpoint: Checkpoint,
    ) -> None:
        self._batcher = batcher
        self._filler = filler
        self._finisher = finisher
        self._claims = claims
        self._accounts = accounts
        self._slots = slots
        self._waiter = waiter
        self._clock = waiter.clock
        self._checkpoint = checkpoint

    def run(self, organization: str, records: list[Record]) -> None:
        """Fill one batch with records of the organization, and deliver it.

        Args:
            records: taken from the queue, as many as fit and some spare; unneeded ones are put
                back, and more are taken if too many drop out.

        Raises:
            StoppedError: the worker stops; undecided records stay undecided.
            LedgerLostError: the ledger lost data: nothing may be sent.
        """
        assembly = self._filler.begin(organization, records)
        batch = assembly.batch
        if self._filler.may_still_fill(assembly):
            self._put_back(assembly, batch.empty())
        if batch.records:
            self._deliver(assembly)
        self._put_back(assembly)
        self._adopt_all(assembly)
        self._filler.check_bulk_failures(assembly)

    def _put_back(self, assembly: BatchAssembly, members: Sequence[Record] = ()) -> None:
        """Put these records back into the queue, then those that could not join the batch."""
        self._batcher.put_back(
            assembly.batch.organization, [*members, *assembly.same_address, *assembly.other_senders]
        )
        assembly.same_address.clear()
        assembly.other_senders.clear()

    def _deliver(self, assembly: BatchAssembly) -> None:
        """Pin and send the batch, or park its records if the account is held."""
        batch = assembly.batch
        account = self._accounts.of(batch.organization)
        if account is None:
            raise AssertionError(f"records of {batch.organization} must be parked")
        asked = self._clock.monotonic()
        # Take the slot before pinning: pinning checks suppression, so the call must follow at
        # once and not after a wait.
        slot = self._slots.take(account, batch.sender)
        if isinstance(slot, Held):
            parked = Parked(Scope.of_hold(account, slot.domain))
            now = self._clock.time()
            for record in batch.empty():
                record.resolve(parked, now)
            return
        if self._clock.monotonic() - asked > _STALE_S:
            # During the wait campaigns may have been paused, or may have expired.
            self._filler.screen(assembly, batch.empty())
        pinned = self._pin(assembly, account)
        if pinned is not None:
            self._send(assembly, pinned, slot)

    # Pinning

    def _pin(self, assembly: BatchAssembly, account: str) -> PinnedBatch | None:
        """Pin the batch, dropping records that turn out to be suppressed or claimed.

        Returns None if no record is left, or if another worker has already adopted the batch.
        """
        batch = assembly.batch
        while batch.records:
            self._checkpoint("before_pin")
            # A new id for each body: a pinned body never changes, and the reply to a successful
            # pin may be lost.
            batch.id = new_id()
            batch.payload = Payload(batch.mails)
            ref = BatchRef(batch.organization, batch.id)
            pin = partial(
                self._claims.pin,
                *ref,
                account,
                batch.sender,
                batch.records,
                batch.payload,
                batch.expires_at,
            )
            asked_at = self._clock.boottime()
            try:
                with metrics.PIN.time():
                    answer = self._waiter.retry_redis(pin)
            except TakenOverError:
                assembly.adoptions[batch.id] = list(zip(batch.empty(), count()))
                return None
            if isinstance(answer, Pinned):
                self._checkpoint("after_pin")
                batch.state = BatchState.PINNED
                return PinnedBatch(ref, account, batch.sender, batch.payload, "", asked_at)
            self._drop_conflicts(assembly, answer)
            self._filler.fill(assembly)
        return None

    def _drop_conflicts(self, assembly: BatchAssembly, conflict: Conflict) -> None:
        items = conflict.suppressed | conflict.claims.keys()
        records = assembly.batch.records
        assembly.batch.remove(items)
        now = self._clock.time()
        for item in items:
            record = records[item]
            claim = conflict.claims.get(item)
            if claim is None:
                record.resolve(Outcome.of(Reason.SUPPRESSED), now)
            else:
                assembly.add_claimed(record, claim, now)

    # Sending

    def _send(self, assembly: BatchAssembly, pinned: PinnedBatch, slot: Slot) -> None:
        batch = assembly.batch
        assembly.resolve_same_address(self._clock.time())
        # Release these now: resolving the batch may take hours.
        self._put_back(assembly)
        batch.state = BatchState.SENDING
        result = self._finisher.send(pinned, slot)
        batch.state = BatchState.RESOLVED
        self._resolve(assembly, batch.id, list(zip(batch.records, count())), result)

    def _adopt_all(self, assembly: BatchAssembly) -> None:
        """Adopt the batches that pinned records before, and resolve the records by them."""
        for batch_id, claimed in assembly.adoptions.items():
            result = self._finisher.adopt(BatchRef(assembly.batch.organization, batch_id))
            self._resolve(assembly, batch_id, claimed, result)

    def _resolve(
        self,
        assembly: BatchAssembly,
        batch_id: str,
        claimed: list[tuple[Record, int]],
        result: Finished,
    ) -> None:
        records = [record for record, _ in claimed]
        if result is Unpinned.UNPINNED:
            self._batcher.put_back(assembly.batch.organization, records)
        else:
            resolve_all(claimed, batch_id, result, self._clock.time())
            assembly.resolved += records
