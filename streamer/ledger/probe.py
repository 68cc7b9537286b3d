"""Looks up a batch's members in Redis before they are rendered, in one round trip."""

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
    """The result of a lookup. Members are identified by their indexes in the given records.

    Attributes:
        suppressed: the members whose address is suppressed.
        claims: the existing claims by member, without those that the record may replace.
        campaigns: the state of each campaign.
    """

    suppressed: frozenset[int]
    claims: dict[int, Claim]
    campaigns: dict[str, CampaignProbe]


class Probes:
    """Looks up suppressions, claims and campaign states."""

    def __init__(self, client: Client, epoch: Epoch) -> None:
        self._epoch = epoch
        self._script = client.register_script(read("probe"))

    def of(self, organization: str, records: Sequence[Record]) -> Probe:
        """Look up one or more records of the same organization.

        Raises:
            AssertionError: `records` is empty, which the script does not support.
            LedgerLostError: the ledger was lost, so its campaigns and claims cannot be relied on.
            redis.exceptions.RedisError: Redis cannot be used.
        """
        if not records:
            raise AssertionError("no records to look up")
        addresses = [record.address or "" for record in records]
        campaign_ids = [record.campaign_id for record in records]
        members = [f"{id_}\t{of}\n" for id_, of in zip(campaign_ids, addresses, strict=True)]
        ids = list(dict.fromkeys(campaign_ids))
        slot_epoch = keys.organization_epoch(organization)
        epoch, suppressed, found, *campaigns = cast(
            tuple[bytes, list[int], list[object], *tuple[list[bytes | int | None], ...]],
            self._script(
                keys=[
                    slot_epoch,
                    keys.suppressed(organization),
                    keys.older_claims(slot_epoch),
                    *(
                        key(organization, id_)
                        for id_ in ids
                        for key in (keys.campaign, keys.last_mails)
                    ),
                ],
                args=[
                    keys.claims(organization),
                    "".join(members),
                    b"".join(map(claim_field, addresses)),
                ],
            ),
        )
        # Either nothing was pinned for the organization yet, or its data is lost, or an earlier
        # version wrote it. Only then does a lookup write the epoch, so that it looks for the older
        # claims; else only a pin does, since malformed events may name any organization.
        if epoch != self._epoch.in_slots.encode() and self._epoch.verify_new(slot_epoch):
            self._epoch.spread(slot_epoch)
            return self.of(organization, records)
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
