"""Pinned batches and their ownership: only a batch's owner may send it."""

from dataclasses import dataclass, field
from typing import Protocol

from streamer.ledger.claims import StoredBatch
from streamer.ledger.holds import BatchRef
from streamer.model.payload import Payload
from streamer.model.result import SplitProgress
from streamer.worker.clock import WorkerClock
from streamer.worker.waiter import Waiter

_OWNERSHIP_S = 5.0
"""How long calls for a batch may leave after its ownership was last confirmed."""
_MARGIN_S = 1.0


class OwnedBatches(Protocol):
    """What the ledger does for the owner of a batch; `ledger.claims.Claims` says how."""

    def adopt(self, organization: str, batch_id: str, owner: str) -> StoredBatch | None: ...

    def own(
        self,
        organization: str,
        batch_id: str,
        owner: str,
        split_progress: SplitProgress | None = None,
    ) -> None: ...


@dataclass(slots=True)
class PinnedBatch:
    """A batch as its owner sends it. Times are seconds on `WorkerClock.boottime`.

    Attributes:
        sender: the domain that its mails come from.
        owner: the adopter's unique name; empty if this worker pinned the batch itself.
        asked_at: when the request was made by which the ledger last confirmed the ownership: a
            lower bound of when it did.
        age_s: time since the batch was pinned, at `asked_at`.
        sole_owner_from: when calls of earlier owners can no longer arrive.
        split_progress: what is known of the parts of a split batch.
    """

    ref: BatchRef
    account: str
    sender: str
    payload: Payload
    owner: str
    asked_at: float
    age_s: float = 0.0
    sole_owner_from: float = 0.0
    split_progress: SplitProgress = field(default_factory=SplitProgress)


def settling_s(timeout_s: float) -> float:
    """How long after an adoption a call of an earlier owner may still arrive, in seconds."""
    return _OWNERSHIP_S + timeout_s + _MARGIN_S


def adopt(
    claims: OwnedBatches, ref: BatchRef, owner: str, timeout_s: float, clock: WorkerClock
) -> PinnedBatch | None:
    """Adopt a batch; None if there is nothing to send, as it has a result or is gone.

    Args:
        owner: a name unique to this adoption.
        timeout_s: the longest that a call of any worker can take. An earlier owner's call may
            have left as late as the end of its ownership, and on a slow uplink its body may be
            written until the call times out.

    Raises:
        redis.exceptions.RedisError: Redis cannot be used.
    """
    asked_at = clock.boottime()
    stored = claims.adopt(*ref, owner)
    if stored is None or stored.payload is None:
        return None
    return PinnedBatch(
        ref,
        stored.account,
        stored.sender,
        stored.payload,
        owner,
        asked_at,
        stored.age_s,
        clock.boottime() + settling_s(timeout_s),
        stored.split_progress,
    )


class Ownership:
    """Confirms the ownership of batches while they are sent.

    Its methods wait for Redis, and raise TakenOverError if another owner has the batch now.
    """

    def __init__(self, claims: OwnedBatches, waiter: Waiter) -> None:
        self._claims = claims
        self._waiter = waiter
        self._clock = waiter.clock

    def extend(self, batch: PinnedBatch) -> float:
        """Confirm the ownership for long enough to make a call; return the latest time at which
        the call may leave."""
        if self._clock.boottime() - batch.asked_at > _OWNERSHIP_S / 2:
            self._check(batch, None)
        return batch.asked_at + _OWNERSHIP_S

    def save_split_progress(self, batch: PinnedBatch) -> None:
        """Store what is known of the batch's parts, confirming the ownership."""
        self._check(batch, batch.split_progress)

    def _check(self, batch: PinnedBatch, split_progress: SplitProgress | None) -> None:
        def own() -> float:
            asked_at = self._clock.boottime()
            self._claims.own(*batch.ref, batch.owner, split_progress)
            return asked_at

        batch.asked_at = self._waiter.retry_redis(own)
