"""What a sender thread is at: a batch that is filled, and who turned up beside it."""

import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace

from streamer.ledger.campaigns import CampaignProbe
from streamer.ledger.claims import Claim
from streamer.model.reasons import Reason
from streamer.model.record import Outcome, Parked, Record, Resolution
from streamer.model.result import BatchResult
from streamer.worker.batch import Batch


class BatchAssembly:
    """A batch, and who turned up beside it while it was filled.

    Attributes:
        same_address: records of an address and campaign that the batch has a mail for already.
        other_senders: records whose mails come from another sender's domain.
        adoptions: records that were pinned before, by the batch that carried them.
        resolved: records that ended as mails do, not looked at yet.
        campaigns: theirs, as they were when the records were decided.
    """

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.same_address: list[Record] = []
        self.other_senders: list[Record] = []
        self.adoptions: defaultdict[str, list[tuple[Record, int]]] = defaultdict(list)
        self.resolved: list[Record] = []
        self.campaigns: dict[str, CampaignProbe] = {}

    def resolve(self, record: Record, resolution: Resolution, now: float) -> None:
        """End a record."""
        record.resolve(resolution, now)
        self.resolved.append(record)

    def add_claimed(self, record: Record, claim: Claim, now: float) -> None:
        """Take a record whose address is claimed: by itself, or by another."""
        if claim.is_of(record):
            self.adoptions[claim.batch_id].append((record, claim.item))
        else:
            record.resolve(duplicate(claim), now)

    def resolve_same_address(self, now: float) -> None:
        """Once the batch is pinned, take those whose address is claimed by that, as `add_claimed`.

        A twin may be the very record that is a member, read again after its partition went and
        came back: then the batch is its own, and no duplicate.
        """
        twins, self.same_address = self.same_address, []
        items = {id(record): item for item, record in enumerate(self.batch.records)}
        for twin in twins:
            holder = self.batch.holder(twin)
            if holder is None:
                self.same_address.append(twin)
            else:
                claim = Claim(self.batch.id, items[id(holder)], str(holder.record_id))
                self.add_claimed(twin, claim, now)


def duplicate(claim: Claim) -> Outcome:
    """The outcome of a record whose address another record has claimed."""
    return Outcome.of(Reason.DUPLICATE, f"of {claim.record_id}")


def resolve_all(
    claimed: Iterable[tuple[Record, int]], batch_id: str, result: BatchResult | Parked | None
) -> None:
    """End records as items of their batch: by its result, or parked with it; None if the ledger
    does not have it."""
    now = time.time()
    if isinstance(result, BatchResult):
        outcomes = result.outcomes(batch_id)
        for record, item in claimed:
            record.resolve(outcomes[item], now)
        return
    if result is not None:
        result = replace(result, maybe_pinned=True)
    detail = f"batch {batch_id} is claimed, but the ledger does not have it"
    for record, _ in claimed:
        record.resolve(result or Outcome.of(Reason.LEDGER_LOST, detail), now)
