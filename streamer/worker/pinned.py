"""A pinned batch in the hands of its owner, the only one who may send it."""

from dataclasses import dataclass, field

from streamer.ledger.claims import Claims
from streamer.ledger.holds import BatchRef
from streamer.model.payload import Payload
from streamer.model.result import SplitProgress
from streamer.worker.waiter import Waiter, deadline_clock

_OWNERSHIP_S = 5.0
"""For so long after a batch was known to be its owner's may calls for it leave."""
_MARGIN_S = 1.0


@dataclass(slots=True)
class PinnedBatch:
    """A batch that its owner sends. Times are seconds on the clock of `deadline_clock`.

    Attributes:
        sender: the domain that its mails come from.
        owner: as it was adopted; empty for who pinned it.
        asked_at: when the ledger was asked that knew it as this owner's; so long, at least, it
            has been.
        age_s: since it was pinned, at `asked_at`.
        sole_owner_from: from when on no call of an earlier owner's can arrive.
        split_progress: what is known of its parts.
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


def adopt(claims: Claims, ref: BatchRef, owner: str, timeout_s: float) -> PinnedBatch | None:
    """Adopt a batch; None if there is nothing to send: it has a result, or is gone.

    Args:
        owner: a name that no other adoption has.
        timeout_s: for how long a call can be under way, at any worker. A call of an earlier
            owner's may have left until that one's ownership ended, and its body, which takes
            long where the uplink is slow, be written until it times out.

    Raises:
        redis.exceptions.RedisError: Redis cannot be used.
    """
    asked_at = deadline_clock()
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
        deadline_clock() + _OWNERSHIP_S + timeout_s + _MARGIN_S,
        stored.split_progress,
    )


class Ownership:
    """Makes sure that batches are their owner's while they are sent.

    Its methods wait for Redis, and raise TakenOverError if the batch is another's now.
    """

    def __init__(self, claims: Claims, waiter: Waiter) -> None:
        self._claims = claims
        self._waiter = waiter

    def extend(self, batch: PinnedBatch) -> float:
        """Make sure of it for long enough to make a call; returns until when one may leave."""
        if deadline_clock() - batch.asked_at > _OWNERSHIP_S / 2:
            self._check(batch, None)
        return batch.asked_at + _OWNERSHIP_S

    def save_split_progress(self, batch: PinnedBatch) -> None:
        """Keep with the batch what is known of its parts, as its owner."""
        self._check(batch, batch.split_progress)

    def _check(self, batch: PinnedBatch, split_progress: SplitProgress | None) -> None:
        def own() -> float:
            asked_at = deadline_clock()
            self._claims.own(*batch.ref, batch.owner, split_progress)
            return asked_at

        batch.asked_at = self._waiter.retry_redis(own)
