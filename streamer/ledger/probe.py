"""What Redis knows about a batch's members before they are rendered, in one round trip."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from streamer.ledger import keys
from streamer.ledger.campaigns import PROBE_FIELDS, CampaignProbe, read_probe
from streamer.ledger.connection import Client


@dataclass(frozen=True, slots=True)
class Probe:
    """The answer: for each address whether it is suppressed, for each campaign its state."""

    suppressed: list[bool]
    campaigns: dict[str, CampaignProbe]


def probe(
    client: Client, organization: str, addresses: Sequence[str], campaign_ids: Iterable[str]
) -> Probe:
    """Check normalised addresses, one or more, and campaigns of one organization."""
    ids = list(campaign_ids)
    pipeline = client.pipeline(transaction=False)
    pipeline.smismember(keys.suppressed(organization), list(addresses))
    for campaign_id in ids:
        pipeline.hmget(keys.campaign(organization, campaign_id), PROBE_FIELDS)
    suppressed, *campaigns = pipeline.execute()
    return Probe(
        [bool(member) for member in suppressed],
        {id_: read_probe(values) for id_, values in zip(ids, campaigns, strict=True)},
    )
