"""A pinned batch in the hands of its owner, the only one who may send it."""

from dataclasses import dataclass, field

from streamer.ledger.claims import Claims
from streamer.ledger.holds import BatchRef
from streamer.model.payload import Payload
from streamer.model.result import Learned
from streamer.worker.waiting import Waiting, deadline_clock

_OWNED_S = 5.0
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
        alone_from: from when on no call of an earlier owner's can arrive.
        learned: what is known of its parts.
    """

    ref: BatchRef
    account: str
    sender: str
    payload: Payload
    owner: str
    asked_at: float
    age_s: float = 0.0
    alone_from: float = 0.0
    learned: Learned = field(default_factory=Learned)


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
        deadline_clock() + _OWNED_S + timeout_s + _MARGIN_S,
        stored.learned,
    )


class Ownership:
    """Makes sure that batches are their owner's while they are sent.

    Its methods wait for Redis, and raise TakenOverError if the batch is another's now.
    """

    def __init__(self, claims: Claims, waiting: Waiting) -> None:
        self._claims = claims
        self._waiting = waiting

    def extend(self, batch: PinnedBatch) -> float:
        """Make sure of it for long enough to make a call; returns until when one may leave."""
        if deadline_clock() - batch.asked_at > _OWNED_S / 2:
            self._check(batch, None)
        return batch.asked_at + _OWNED_S

    def keep_learned(self, batch: PinnedBatch) -> None:
        """Keep with the batch what is known of its parts, as its owner."""
        self._check(batch, batch.learned)

    def _check(self, batch: PinnedBatch, learned: Learned | None) -> None:
        def own() -> float:
            asked_at = deadline_clock()
            self._claims.own(*batch.ref, batch.owner, learned)
            return asked_at

        batch.asked_at = self._waiting.for_redis(own)
