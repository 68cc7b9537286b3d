"""Changing and deleting a campaign before its first recipient is read.

A worker learns a definition's version from `probe.lua`, which fixes the definition in the same
step. So an edit either comes first, and every worker learns the new version, or it is refused: once
`edit` has returned, no mail is made from the old definition, whatever workers remember of it.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import cast

import orjson

from streamer.errors import StreamerError
from streamer.ledger import campaigns, keys
from streamer.ledger.campaigns import Campaign
from streamer.ledger.connection import Client
from streamer.ledger.scripts import read
from streamer.model.campaign import CampaignName, Definition


class NotADraftError(StreamerError):
    """The campaign cannot be edited or deleted; the message says why, and what can be done."""


@dataclass(frozen=True, slots=True)
class EarlierVersion:
    """A definition that was replaced."""

    version: str
    replaced_at: datetime
    definition: Definition


def edit(client: Client, before: Campaign, definition: Definition) -> None:
    """Replace a draft's definition, keeping the old one among its earlier versions.

    Args:
        before: the campaign as it was read.
        definition: the new definition, with the same ids.

    Raises:
        NotADraftError: a recipient was read, or the definition was changed or deleted meanwhile.
    """
    name = CampaignName(definition.organization_id, definition.campaign_id)
    written, version = campaigns.encode(definition)
    replaced = {
        "version": before.version,
        "replaced_at": datetime.now(UTC).isoformat(),
        "definition": before.definition.model_dump(mode="json", by_alias=True),
    }
    answer = client.register_script(read("edit_campaign"))(
        keys=[keys.campaign(*name), keys.campaign_versions(*name)],
        args=[
            before.version,
            written,
            version,
            campaigns.start_argument(definition),
            orjson.dumps(replaced),
        ],
    )
    match cast(bytes, answer):
        case b"begun":
            raise NotADraftError(
                f"campaign {name} has begun, and all its recipients get the same mail; to send "
                f"another one: streamer campaign copy {name} {name.organization}/NEW"
            )
        case b"changed":
            raise NotADraftError(f"campaign {name} was edited meanwhile: look at it, and try again")
        case b"missing":
            raise NotADraftError(f"campaign {name} was deleted meanwhile")


def delete(client: Client, organization: str, campaign_id: str) -> None:
    """Delete a draft. Its recipients that are produced already become dead letters.

    Raises:
        NotADraftError: a recipient was read.
    """
    name = CampaignName(organization, campaign_id)
    answer = client.register_script(read("delete_campaign"))(
        keys=[keys.campaign(*name), keys.campaign_versions(*name), keys.last_mails(*name)]
    )
    if answer == b"begun":
        raise NotADraftError(
            f"campaign {name} has begun: end it with streamer campaign cancel, and delete what has "
            f"ended with streamer campaign drop"
        )
    campaigns.unlist(client, organization, campaign_id)


def earlier_versions(client: Client, organization: str, campaign_id: str) -> list[EarlierVersion]:
    """Return the definitions that were replaced, oldest first.

    Raises:
        UnreadableDefinitionError: a stored definition cannot be read.
    """
    key = keys.campaign_versions(organization, campaign_id)
    found = [orjson.loads(entry) for entry in cast(list[bytes], client.lrange(key, 0, -1))]
    return [
        EarlierVersion(
            entry["version"],
            datetime.fromisoformat(entry["replaced_at"]),
            campaigns.decode(key, orjson.dumps(entry["definition"])),
        )
        for entry in found
    ]
