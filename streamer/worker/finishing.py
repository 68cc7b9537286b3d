"""Takes a pinned batch to its result: sends it, or adopts one that was pinned before.

Recovery relies on redelivery alone: a redelivered record finds its claim, and with it its batch.
"""

import logging
import secrets
from collections import Counter
from functools import partial
from typing import Protocol

from streamer.ledger.claims import StoredBatch, TakenOverError
from streamer.ledger.holds import BatchRef
from streamer.ledger.limiter import Slot
from streamer.model.record import Parked
from streamer.model.result import BatchResult
from streamer.provider.accounts import Accounts
from streamer.worker.account_states import AccountStateCache
from streamer.worker.checkpoint import Checkpoint
from streamer.worker.pinned import OwnedBatches, PinnedBatch, adopt, settling_s
from streamer.worker.sending import Deferred, Sender
from streamer.worker.single_flight import Finished, SingleFlight, Unpinned
from streamer.worker.waiter import Waiter

logger = logging.getLogger(__name__)

_OTHER_OWNER_S = 10.0
"""How long to wait for another owner's result before taking the batch over."""
_LOOK_EVERY_S = 0.25


class FinishedBatches(OwnedBatches, Protocol):
    """What the ledger does to finish a batch; `ledger.claims.Claims` says how."""

    def load(self, organization: str, batch_id: str) -> StoredBatch | None: ...

    def defer(self, organization: str, batch_id: str, owner: str) -> bool: ...

    def unpin(self, organization: str, batch_id: str, batch: StoredBatch) -> bool: ...

    def resolve(
        self, organization: str, batch_id: str, owner: str, result: BatchResult
    ) -> BatchResult | None: ...


class Finisher:
    """Finishes batches, each on only one thread of this process at a time.

    Args:
        timeout_s: the longest that a call of any worker can take.
    """

    def __init__(
        self,
        claims: FinishedBatches,
        accounts: Accounts,
        sender: Sender,
        account_states: AccountStateCache,
        waiter: Waiter,
        checkpoint: Checkpoint,
        timeout_s: float,
    ) -> None:
        self._claims = claims
        self._accounts = accounts
        self._sender = sender
        self._account_states = account_states
        self._waiter = waiter
        self._clock = waiter.clock
        self._checkpoint = checkpoint
        self._timeout_s = timeout_s
        # Two workers may have members of one batch. Were one less patient, they would take the
        # batch from each other for ever, as each has to wait before a refusal is final.
        self._patience_s = settling_s(timeout_s) + _OTHER_OWNER_S
        self._single_flight = SingleFlight()

    def oldest(self) -> float | None:
        """When the oldest unresolved batch was started, on the monotonic clock, or None."""
        return self._single_flight.oldest()

    def send(self, batch: PinnedBatch, slot: Slot) -> Finished:
        """Send a batch that was just pinned.

        Args:
            slot: for the first call.

        Raises:
            StoppedError: the worker stops.
            LedgerLostError: the ledger lost data: nothing may be sent.
        """
        return self._single_flight.do(batch.ref.batch_id, partial(self._send_own, batch, slot))

    def adopt(self, ref: BatchRef) -> Finished:
        """Finish a batch that is in the ledger. Raises what `send` does."""
        return self._single_flight.do(ref.batch_id, partial(self._finish, ref))

    def _send_own(self, batch: PinnedBatch, slot: Slot) -> Finished:
        try:
            return self._send_and_resolve(batch, slot)
        except TakenOverError:
            return self._finish(batch.ref, is_others=True)

    def _finish(self, ref: BatchRef, is_others: bool = False) -> Finished:
        """Finish a batch that is in the ledger.

        Args:
            is_others: whether another owner is sending it: then wait for the result first, and
                take the batch over only if none comes.
        """
        patience = self._clock.monotonic() + self._patience_s
        while True:
            stored = self._waiter.retry_redis(partial(self._claims.load, *ref))
            if stored is None:
                return None
            if stored.unpinned:
                return Unpinned.UNPINNED
            if stored.payload is None:
                return stored.result
            scope = self._account_states.scope_of(stored.account, stored.sender)
            # A hold does not concern an organization that has moved to another account.
            has_left = self._accounts.of(ref.organization) != stored.account
            if scope is not None and not (stored.deferred and has_left):
                return Parked(scope)  # without adopting the batch: it has no owner while parked
            if stored.deferred:
                # Resend has accepted nothing of it, so its records can be decided anew: those
                # suppressed or cancelled since are not mailed.
                self._waiter.retry_redis(partial(self._claims.unpin, *ref, stored))
                continue
            if is_others and self._clock.monotonic() < patience:
                self._waiter.sleep(_LOOK_EVERY_S)
                continue
            try:
                owner = secrets.token_hex(8)
                adopt_it = partial(adopt, self._claims, ref, owner, self._timeout_s, self._clock)
                batch = self._waiter.retry_redis(adopt_it)
                if batch is not None:
                    return self._send_and_resolve(batch, slot=None)
            except TakenOverError:
                is_others, patience = True, self._clock.monotonic() + self._patience_s

    def _send_and_resolve(
        self, batch: PinnedBatch, slot: Slot | None
    ) -> BatchResult | Parked | None:
        result = self._sender.send(batch, slot)
        _say(batch, result)
        self._checkpoint("after_post")
        if isinstance(result, Deferred):
            if result.not_accepted:
                self._waiter.retry_redis(partial(self._claims.defer, *batch.ref, batch.owner))
            return result.parked
        return self._waiter.retry_redis(
            partial(self._claims.resolve, *batch.ref, batch.owner, result)
        )


def _say(batch: PinnedBatch, result: BatchResult | Deferred) -> None:
    """Log a line for the batch."""
    if logger.isEnabledFor(logging.DEBUG):
        words = [] if isinstance(result, Deferred) else [item.outcome for item in result.items]
        counts = [f"{count:,} {word}" for word, count in Counter(words).items()]
        logger.debug(
            "batch done",
            extra={
                "organization": batch.ref.organization,
                "batch": batch.ref.batch_id,
                "account": batch.account,
                "mails": len(batch.payload),
                "result": ", ".join(counts) or "deferred",
            },
        )
