"""Campaign definitions and states. What creates or changes one is confirmed when it returns."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from typing import NamedTuple, cast

import orjson
from pydantic import ValidationError

from streamer.errors import StreamerError
from streamer.ledger import keys
from streamer.ledger.claims import claim_keys
from streamer.ledger.confirming import ConfirmedScript
from streamer.ledger.connection import Client
from streamer.ledger.scripts import read
from streamer.model.campaign import CampaignName, CampaignState, Definition, Message
from streamer.model.standing import CampaignCondition

PROBE_FIELDS = ("state", "version", "start_at", "resumed")
"""The fields of the hash `keys.campaign(…)` that `probe.lua` reads and `read_probe` parses, in this
order."""


_ACTIVE, _PAUSED, _CANCELLED, _COMPLETED = (
    CampaignState.ACTIVE,
    CampaignState.PAUSED,
    CampaignState.CANCELLED,
    CampaignState.COMPLETED,
)


_AT_ONCE = 512


class CampaignExistsError(StreamerError):
    """The campaign is already defined differently; the message lists the differences."""


class UnreadableDefinitionError(StreamerError):
    """This version cannot read the definition stored in the ledger."""


class CampaignProbe(NamedTuple):
    """What a worker reads about a campaign before each batch.

    Attributes:
        state: `paused` also before `start_at`; None if the campaign was never defined nor its state
            set.
        version: changes if and only if the definition does; None if there is no definition.
        resumed: how often the campaign was resumed after a pause.
        some_failed: whether some of its last mails failed; see `last_mails`.
    """

    state: CampaignState | None
    version: str | None
    resumed: int = 0
    some_failed: bool = False


class CampaignStatus(NamedTuple):
    """The state of a campaign after an attempt to change it.

    Attributes:
        state: `paused` also while the campaign waits for its start.
        waits_until: the start it waits for; None if it does not wait.
    """

    state: CampaignState
    waits_until: datetime | None


@dataclass(frozen=True, slots=True)
class Campaign:
    """A defined campaign.

    Attributes:
        state: `paused` also while the campaign waits for its start.
        waits_until: the start it waits for; None if it does not wait.
        paused_for: why a worker paused it; None if an operator did or it is not paused.
        is_draft: whether no recipient was read yet, so that it can be edited; see `drafts`.
    """

    definition: Definition
    version: str
    state: CampaignState
    created_at: datetime
    waits_until: datetime | None
    paused_for: str | None
    is_draft: bool


def create(client: Client, definition: Definition) -> bool:
    """Define a campaign atomically; return False if the same definition already exists.

    An existing definition is not replaced; `drafts.edit` does that.

    Raises:
        CampaignExistsError: the campaign is defined differently.
        UnreadableDefinitionError: the existing definition cannot be read.
    """
    organization, campaign_id = definition.organization_id, definition.campaign_id
    key = keys.campaign(organization, campaign_id)
    written, version = encode(definition)
    script = ConfirmedScript(client, read("create_campaign"))
    now = datetime.now(UTC).isoformat()
    existing = cast(
        bytes | None,
        script(keys=[key], args=[written, version, now, start_argument(definition)]),
    )
    if existing is not None:
        found = decode(key, existing)
        if differences := _differences(found, definition):
            raise CampaignExistsError(
                f"campaign {organization}/{campaign_id} already exists with a different "
                f"{', '.join(differences)}; before it begins, streamer campaign edit changes it"
            )
    # After the hash, and even if the hash existed: its writer may have been interrupted here.
    client.sadd(keys.campaigns(organization), campaign_id)
    client.sadd(keys.ORGANIZATIONS, organization)
    return existing is None


def load(client: Client, organization: str, campaign_id: str) -> Campaign | None:
    """Read a campaign; None if it is not defined.

    Raises:
        UnreadableDefinitionError: the stored definition cannot be read.
    """
    key = keys.campaign(organization, campaign_id)
    fields = ("definition", "version", "state", "start_at", "created_at", "paused_for", "begun")
    values = cast(list[bytes | None], client.hmget(key, fields))
    stored, version, state, start_at, created_at, paused_for, begun = values
    if stored is None or version is None:
        return None
    status = _status(state or b"active", start_at)
    return Campaign(
        definition=decode(key, stored),
        version=version.decode(),
        state=status.state,
        created_at=datetime.fromisoformat((created_at or b"1970-01-01T00:00:00+00:00").decode()),
        waits_until=status.waits_until,
        paused_for=None if paused_for is None else paused_for.decode(),
        is_draft=begun is None,
    )


def created_at(client: Client, organization: str, campaign_id: str) -> datetime | None:
    """Read when a campaign was created; None if it is not defined."""
    value = client.hget(keys.campaign(organization, campaign_id), "created_at")
    return datetime.fromisoformat(value.decode()) if isinstance(value, bytes) else None


def load_message(client: Client, organization: str, campaign_id: str) -> tuple[str, Message] | None:
    """Return the version of a campaign's definition and its message; None if it is not defined.

    Raises:
        UnreadableDefinitionError: the stored definition cannot be read.
    """
    key = keys.campaign(organization, campaign_id)
    stored, version = cast(list[bytes | None], client.hmget(key, ("definition", "version")))
    if stored is None or version is None:
        return None
    return version.decode(), decode(key, stored)


def state(client: Client, organization: str, campaign_id: str) -> CampaignState | None:
    """Return the campaign's state; None if it was never defined nor its state set."""
    (found,) = states(client, [(organization, campaign_id)])
    return found


def states(client: Client, names: Sequence[tuple[str, str]]) -> list[CampaignState | None]:
    """Return the states of campaigns, given as (organization, id), in few round trips."""
    found: list[CampaignState | None] = []
    for start in range(0, len(names), _AT_ONCE):
        pipeline = client.pipeline(transaction=False)
        for organization, campaign_id in names[start : start + _AT_ONCE]:
            pipeline.hmget(keys.campaign(organization, campaign_id), ("state", "start_at"))
        found += [
            None if state is None else _status(state, start_at).state
            for state, start_at in pipeline.execute()
        ]
    return found


def conditions(client: Client, names: Sequence[CampaignName]) -> list[CampaignCondition]:
    """Return what is known about the states of campaigns, in few round trips."""
    fields = ("version", "state", "start_at", "paused_for", "begun")
    found: list[CampaignCondition] = []
    for start in range(0, len(names), _AT_ONCE):
        pipeline = client.pipeline(transaction=False)
        for name in names[start : start + _AT_ONCE]:
            pipeline.hmget(keys.campaign(*name), fields)
        for version, state, start_at, why, begun in pipeline.execute():
            status = _status(state or b"active", start_at)
            is_known = state is not None or version is not None
            found.append(
                CampaignCondition(
                    state=status.state if is_known else None,
                    waits_until=status.waits_until,
                    paused_for=None if why is None else why.decode(),
                    is_draft=version is not None and begun is None,
                )
            )
    return found


def paused_for(client: Client, organization: str, campaign_id: str) -> str | None:
    """Return why a worker paused a campaign, defined or not; None if no worker did."""
    found = client.hget(keys.campaign(organization, campaign_id), "paused_for")
    return None if found is None else cast(bytes, found).decode()


def pause(
    client: Client,
    organization: str,
    campaign_id: str,
    why: str = "",
    resumed: int | None = None,
) -> CampaignStatus:
    """Pause a campaign.

    Batches that are already pinned are still sent. A cancelled campaign stays cancelled.

    Args:
        why: the reason to show for a pause made by a worker.
        resumed: pause only if the campaign's `resumed` count still has this value; None pauses
            unconditionally.
    """
    return _change(
        client,
        (organization, campaign_id),
        _PAUSED,
        (_ACTIVE, _PAUSED, _COMPLETED),
        why=why,
        resumed="" if resumed is None else str(resumed),
    )


def resume(
    client: Client, organization: str, campaign_id: str, *, now: bool = False
) -> CampaignStatus:
    """Resume a paused campaign. A cancelled or completed campaign stays as it is.

    Args:
        now: start it even before its `start_at`; otherwise it still waits for that time.
    """
    campaign = (organization, campaign_id)
    return _change(client, campaign, _ACTIVE, (_ACTIVE, _PAUSED), starts_now=now)


def cancel(client: Client, organization: str, campaign_id: str) -> CampaignStatus:
    """Cancel a campaign permanently; late records of a completed one are not sent either."""
    return _change(client, (organization, campaign_id), _CANCELLED, tuple(CampaignState))


def drop(client: Client, organization: str, campaign_id: str) -> None:
    """Delete a campaign: its definition, its state and its claims.

    Records that upstream repeats afterwards are mailed again, so every record of the campaign must
    be resolved and committed first. If interrupted, call it again.
    """
    # Claims first: as long as the rest exists, the campaign can be listed and dropped again.
    all_claims = claim_keys(client, organization, campaign_id)
    for start in range(0, len(all_claims), _AT_ONCE):
        client.unlink(*all_claims[start : start + _AT_ONCE])
    unlist(client, organization, campaign_id)
    name = (organization, campaign_id)
    client.delete(keys.campaign(*name), keys.campaign_versions(*name), keys.last_mails(*name))


def unlist(client: Client, organization: str, campaign_id: str) -> None:
    """Remove a campaign from the lists of campaigns and organizations."""
    client.srem(keys.campaigns(organization), campaign_id)
    if not client.scard(keys.campaigns(organization)):
        client.srem(keys.ORGANIZATIONS, organization)
        if client.scard(keys.campaigns(organization)):  # a campaign was defined concurrently
            client.sadd(keys.ORGANIZATIONS, organization)


def _change(
    client: Client,
    campaign: tuple[str, str],
    new_state: CampaignState,
    allowed: Sequence[CampaignState],
    *,
    starts_now: bool = False,
    why: str = "",
    resumed: str = "",
) -> CampaignStatus:
    organization, campaign_id = campaign
    script = ConfirmedScript(client, read("change_state"))
    reply = script(
        keys=[keys.campaign(*campaign), keys.progress_due(organization)],
        args=[campaign_id, new_state, int(starts_now), why, resumed, *allowed],
    )
    state, start_at = cast(list[bytes | None], reply)
    return _status(state or b"active", start_at)


def read_probe(values: Sequence[bytes | None], *, some_failed: bool = False) -> CampaignProbe:
    """Parse the values of `PROBE_FIELDS`, as returned by HMGET."""
    state, version, start_at, resumed = values
    return CampaignProbe(
        state=None if state is None else _status(state, start_at).state,
        version=None if version is None else version.decode(),
        resumed=int(resumed or 0),
        some_failed=some_failed,
    )


def names(client: Client) -> list[CampaignName]:
    """Return all defined campaigns, sorted."""
    return [
        CampaignName(organization, campaign_id)
        for organization in organizations(client)
        for campaign_id in ids(client, organization)
    ]


def ids(client: Client, organization: str) -> list[str]:
    """Return the ids of the organization's defined campaigns, sorted."""
    return _sorted(cast(set[bytes], client.smembers(keys.campaigns(organization))))


def organizations(client: Client) -> list[str]:
    """Return the organizations that have defined campaigns, sorted."""
    return _sorted(cast(set[bytes], client.smembers(keys.ORGANIZATIONS)))


def _sorted(members: Iterable[bytes]) -> list[str]:
    return sorted(member.decode() for member in members)


def _status(value: bytes, start_at: bytes | None) -> CampaignStatus:
    try:
        found = CampaignState(value.decode())
        starts = 0 if start_at is None or found is not _ACTIVE else int(start_at)
    except ValueError:
        # A newer version's state, or corrupt: pausing sends nothing and loses nothing.
        return CampaignStatus(_PAUSED, None)
    if time.time() >= starts:
        return CampaignStatus(found, None)
    return CampaignStatus(_PAUSED, datetime.fromtimestamp(starts, UTC))


def encode(definition: Definition) -> tuple[bytes, str]:
    """Return a definition as it is stored, and its version."""
    # Sorted keys give equal definitions equal bytes, hence the same version.
    content = definition.model_dump(mode="json", by_alias=True)
    written = orjson.dumps(content, option=orjson.OPT_SORT_KEYS)
    return written, blake2b(written, digest_size=8).hexdigest()


def start_argument(definition: Definition) -> str:
    """Return a definition's start as the scripts take it: seconds since 1970, or nothing."""
    return "" if definition.start_at is None else str(round(definition.start_at.timestamp()))


def decode(key: str, stored: bytes) -> Definition:
    """Read a stored definition.

    Raises:
        UnreadableDefinitionError: this version cannot read it.
    """
    try:
        return Definition.model_validate_json(stored)
    except ValidationError as error:
        raise UnreadableDefinitionError(f"cannot parse the definition at {key}: {error}") from None


def _differences(found: Definition, expected: Definition) -> list[str]:
    return [
        field.alias or name
        for name, field in Definition.model_fields.items()
        if getattr(found, name) != getattr(expected, name)
    ]
