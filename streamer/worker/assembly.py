"""A sender thread's working state: the batch it fills, and the records that cannot join it."""

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
    """A batch being filled, and the records that cannot join it.

    Attributes:
        same_address: records with the same address and campaign as a mail of the batch.
        other_senders: records whose mails come from another sender's domain.
        adoptions: records that an earlier batch pinned, by that batch's id.
        resolved: records with an outcome, not yet passed to `BulkStop`.
        campaigns: the state of the records' campaigns when the records were decided.
    """

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.same_address: list[Record] = []
        self.other_senders: list[Record] = []
        self.adoptions: defaultdict[str, list[tuple[Record, int]]] = defaultdict(list)
        self.resolved: list[Record] = []
        self.campaigns: dict[str, CampaignProbe] = {}

    def resolve(self, record: Record, resolution: Resolution, now: float) -> None:
        """Resolve a record, and note it for `BulkStop`."""
        record.resolve(resolution, now)
        self.resolved.append(record)

    def add_claimed(self, record: Record, claim: Claim, now: float) -> None:
        """Adopt the record's batch if the claim is the record's own; else resolve it as a
        duplicate."""
        if claim.is_of(record):
            self.adoptions[claim.batch_id].append((record, claim.item))
        else:
            record.resolve(duplicate(claim), now)

    def resolve_same_address(self, now: float) -> None:
        """Pass records whose address the batch claims to `add_claimed`, once it is pinned.

        Such a record may be the member itself, read again after its partition was revoked and
        reassigned: then it shares the batch's result and is not a duplicate.
        """
        if not self.same_address:
            return
        twins, self.same_address = self.same_address, []
        items = {id(record): item for item, record in enumerate(self.batch.records)}
        for twin in twins:
            holder = self.batch.holder(twin)
            if holder is None:
                self.same_address.append(twin)
            else:
                claim = Claim(self.batch.id, items[id(holder)], holder.record_id)
                self.add_claimed(twin, claim, now)


def duplicate(claim: Claim) -> Outcome:
    """The outcome of a record whose address another record has claimed."""
    return Outcome.of(Reason.DUPLICATE, f"of {claim.record_id}")


def resolve_all(
    claimed: Iterable[tuple[Record, int]],
    batch_id: str,
    result: BatchResult | Parked | None,
    now: float,
) -> None:
    """Resolve records as items of their batch: by its result, or parked with it.

    Args:
        claimed: records, each with its item number in the batch.
        result: None if the ledger does not have the batch.
        now: seconds since 1970.
    """
    if isinstance(result, BatchResult):
        outcomes = result.outcomes(batch_id)
        for record, item in claimed:
            record.resolve(outcomes[item], now)
        return
    if result is not None:
        result = replace(result, maybe_pinned=True)
    detail = f"claimed by batch {batch_id}, which is missing from the ledger"
    for record, _ in claimed:
        record.resolve(result or Outcome.of(Reason.LEDGER_LOST, detail), now)
