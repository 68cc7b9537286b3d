"""What Redis knows about a batch's members before they are rendered, in one round trip."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from streamer.ledger import keys
from streamer.ledger.campaigns import CampaignProbe, read_probe
from streamer.ledger.claims import Claim, claim_field, read_claim
from streamer.ledger.connection import Client
from streamer.ledger.epoch import Epoch
from streamer.ledger.scripts import read
from streamer.model.record import Record


@dataclass(frozen=True, slots=True)
class Probe:
    """The answer. Members are named by their places among the records that were asked about.

    Attributes:
        suppressed: whose address is suppressed.
        claims: of those whose address is claimed; a claim that a record may take over is none.
        campaigns: of each campaign its state.
    """

    suppressed: frozenset[int]
    claims: dict[int, Claim]
    campaigns: dict[str, CampaignProbe]


class Probes:
    """Looks without writing: who is suppressed, who is claimed, what is with the campaigns."""

    def __init__(self, client: Client, epoch: Epoch) -> None:
        self._epoch = epoch
        self._script = client.register_script(read("probe"))

    def of(self, organization: str, records: Sequence[Record]) -> Probe:
        """Ask about records of one organization, one or more.

        Raises:
            AssertionError: about nobody; a script cannot be.
            LedgerLostError: the ledger forgot; what it says of campaigns and addresses is nothing.
            redis.exceptions.RedisError: Redis cannot be used.
        """
        if not records:
            raise AssertionError("nobody is asked about")
        addresses = [record.address or "" for record in records]
        campaign_ids = [record.campaign_id for record in records]
        members = [f"{id_}\t{of}\n" for id_, of in zip(campaign_ids, addresses, strict=True)]
        ids = list(dict.fromkeys(campaign_ids))
        epoch, suppressed, found, *campaigns = cast(
            tuple[bytes, list[int], list[object], *tuple[list[bytes | int | None], ...]],
            self._script(
                keys=[
                    keys.organization_epoch(organization),
                    keys.suppressed(organization),
                    *(
                        key(organization, id_)
                        for id_ in ids
                        for key in (keys.campaign, keys.last_mails)
                    ),
                ],
                args=[
                    keys.claims_prefix(organization),
                    "".join(members),
                    b"".join(map(claim_field, addresses)),
                ],
            ),
        )
        if epoch != self._epoch.name.encode():
            # Nothing was pinned for it yet, or all is gone. It gets an epoch with its first pin:
            # not each organization that a broken event names.
            self._epoch.verify_new(keys.organization_epoch(organization))
        return Probe(
            frozenset(suppressed),
            _claims(records, found),
            {
                id_: read_probe(cast(list[bytes | None], values[:-1]), some_failed=values[-1] == 1)
                for id_, values in zip(ids, campaigns, strict=True)
            },
        )


def _claims(records: Sequence[Record], found: list[object]) -> dict[int, Claim]:
    claims = {}
    for position, value in zip(found[::2], found[1::2], strict=True):
        claim = read_claim(cast(bytes, value))
        if claim.batch_id != records[cast(int, position)].replaces:
            claims[cast(int, position)] = claim
    return claims
