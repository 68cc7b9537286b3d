"""Read-only access to claims and batches for operators; workers do not use it."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple, cast

from streamer.ledger import keys
from streamer.ledger.claims import Claim, claim_location, read_claim, read_result
from streamer.ledger.connection import Client
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
    key, field = claim_location(organization, campaign_id, address)
    # redis-py types every field as str, but bytes work as well.
    value = cast(bytes | None, client.hget(key, cast(str, field)))
    if value is None:
        return None
    claim = read_claim(value)
    return ClaimStatus(claim, _batch(client, organization, claim.batch_id))


def _batch(client: Client, organization: str, batch_id: str) -> BatchView | None:
    fields = ("pinned_at", "account", "result")
    values = cast(list[bytes | None], client.hmget(keys.batch(organization, batch_id), fields))
    pinned_at, account, result = values
    if account is None:
        return None
    return BatchView(
        None if pinned_at is None else datetime.fromtimestamp(int(pinned_at) / 1000, UTC),
        account.decode(),
        None if result is None else read_result(result),
    )
