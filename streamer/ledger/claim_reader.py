"""Looking at claims and batches without touching them: for people, not for workers."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple, cast

from streamer.ledger import keys
from streamer.ledger.claims import Claim, claim_location, read_claim, read_result
from streamer.ledger.connection import Client
from streamer.model.result import BatchResult


@dataclass(frozen=True, slots=True)
class BatchView:
    """A batch as the ledger has it.

    Attributes:
        pinned_at: when it was pinned; None while it is laid down.
        account: through which it is sent.
        result: None while it is open: sent perhaps, and not yet known how it ended.
    """

    pinned_at: datetime | None
    account: str
    result: BatchResult | None


class ClaimStatus(NamedTuple):
    """Who has claimed an address, and the batch that carries it; None if that is gone."""

    claim: Claim
    batch: BatchView | None


def find(client: Client, organization: str, campaign_id: str, address: str) -> ClaimStatus | None:
    """Who has claimed a normalised address of a campaign; None if nobody has."""
    key, field = claim_location(organization, campaign_id, address)
    # redis-py calls every field text; they are bytes as well.
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
