"""Campaigns: their definitions and states, in Redis."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from typing import cast

from streamer.ledger import keys
from streamer.ledger.connection import Client
from streamer.model.campaign import CampaignState, Definition, Message

PROBE_FIELDS = ("state", "version")


class CampaignExistsError(ValueError):
    """The campaign has another definition already; the message names the fields that differ."""


@dataclass(frozen=True, slots=True)
class CampaignProbe:
    """What a worker asks of a campaign for each batch. Both None: it has no definition."""

    state: CampaignState | None
    version: str | None


@dataclass(frozen=True, slots=True)
class Campaign:
    """A campaign as it is kept."""

    definition: Definition
    version: str
    state: CampaignState
    created_at: datetime


def read_probe(values: Sequence[bytes | None]) -> CampaignProbe:
    """Read the values of PROBE_FIELDS."""
    state, version = values
    return CampaignProbe(
        None if state is None else CampaignState(state.decode()),
        None if version is None else version.decode(),
    )


def create(client: Client, definition: Definition) -> bool:
    """Create a campaign; False if it was there already, with an equal definition.

    Raises:
        CampaignExistsError: it was there with a different one. Mails may have been made from
            that, so it is not replaced.
    """
    body = definition.model_dump_json(by_alias=True, exclude_none=True).encode()
    version = blake2b(body, digest_size=8).hexdigest()
    organization, campaign_id = definition.organization_id, definition.campaign_id
    key = keys.campaign(organization, campaign_id)
    pipeline = client.pipeline(transaction=True)
    pipeline.hsetnx(key, "definition", body)
    pipeline.hsetnx(key, "version", version)
    pipeline.hsetnx(key, "state", CampaignState.ACTIVE.value)
    pipeline.hsetnx(key, "created_at", datetime.now(UTC).isoformat())
    created = bool(pipeline.execute()[0])
    if not created:
        existing = load(client, organization, campaign_id)
        if existing is not None and existing.version != version:
            raise CampaignExistsError(
                f"campaign {organization}/{campaign_id} exists with another definition; "
                f"different: {', '.join(_differences(existing.definition, definition))}"
            )
    # The indices are of other slots; they come last and are written again by a repetition.
    client.sadd(keys.campaigns(organization), campaign_id)
    client.sadd(keys.ORGANIZATIONS, organization)
    return created


def load(client: Client, organization: str, campaign_id: str) -> Campaign | None:
    """Read a campaign; None if it has no definition."""
    fields = cast(dict[bytes, bytes], client.hgetall(keys.campaign(organization, campaign_id)))
    if b"definition" not in fields:
        return None
    return Campaign(
        Definition.model_validate_json(fields[b"definition"]),
        fields[b"version"].decode(),
        CampaignState(fields[b"state"].decode()),
        datetime.fromisoformat(fields[b"created_at"].decode()),
    )


def load_message(client: Client, organization: str, campaign_id: str) -> tuple[str, Message] | None:
    """Read a campaign's content and its version; None if it has no definition."""
    values = cast(
        list[bytes | None],
        client.hmget(keys.campaign(organization, campaign_id), ["version", "definition"]),
    )
    version, definition = values
    if version is None or definition is None:
        return None
    return version.decode(), Message.model_validate_json(definition)


def ids(client: Client, organization: str) -> list[str]:
    """The ids of the organization's defined campaigns, sorted."""
    members = cast(set[bytes], client.smembers(keys.campaigns(organization)))
    return sorted(member.decode() for member in members)


def organizations(client: Client) -> list[str]:
    """The organizations that have defined campaigns, sorted."""
    members = cast(set[bytes], client.smembers(keys.ORGANIZATIONS))
    return sorted(member.decode() for member in members)


def _differences(one: Definition, other: Definition) -> list[str]:
    ours, theirs = one.model_dump(by_alias=True), other.model_dump(by_alias=True)
    return sorted(name for name in ours if ours[name] != theirs[name])
