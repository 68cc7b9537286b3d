"""Read-only access to claims and batches for operators; workers do not use it."""

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, cast

from streamer.ledger import keys
from streamer.ledger.claims import Claim, claim_field, read_claim, read_resolved, read_time
from streamer.ledger.compact import read_result
from streamer.ledger.connection import Client
from streamer.ledger.scripts import read
from streamer.model.result import BatchResult


@dataclass(frozen=True, slots=True)
class BatchView:
    """A batch in the ledger.

    Attributes:
        pinned_at: when it was pinned; None if that is not stored.
        account: the account it is sent through.
        result: None while unresolved: the batch may have been sent, but its outcome is not known.
    """

    pinned_at: datetime | None
    account: str
    result: BatchResult | None


class ClaimStatus(NamedTuple):
    """The claim on an address, and the batch that carries it; None if the batch has expired."""

    claim: Claim
    batch: BatchView | None


def find(client: Client, organization: str, campaign_id: str, address: str) -> ClaimStatus | None:
    """Return the claim on a normalised address of a campaign; None if it is not claimed."""
    script = client.register_script(read("find_claim"))
    value = script(
        keys=[keys.older_claims(keys.organization_epoch(organization))],
        args=[keys.claims(organization), campaign_id, claim_field(address)],
    )
    if value is None:
        return None
    claim = read_claim(cast(bytes, value))
    return ClaimStatus(claim, find_batch(client, organization, claim.batch_id))


def find_batch(client: Client, organization: str, batch_id: str) -> BatchView | None:
    """Return a batch; None if the ledger does not have it, or its members are unpinned."""
    fields = ("pinned_at", "account", "result")
    pipeline = client.pipeline(transaction=False)
    # A batch is one or the other: in this order, one that is resolved in between is found as well.
    pipeline.hmget(keys.batch(organization, batch_id), fields)
    pipeline.get(keys.result(organization, batch_id))
    (pinned_at, account, result), stored = pipeline.execute()
    if stored is not None:
        resolved = read_resolved(stored)
        return BatchView(resolved.pinned_at, resolved.account, resolved.result)
    if account is None:
        return None
    return BatchView(
        None if pinned_at is None else read_time(pinned_at),
        account.decode(),
        None if result is None else read_result(result),
    )
