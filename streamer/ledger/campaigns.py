"""The defined campaigns: what each sends, and its state."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from typing import NamedTuple, cast

import orjson
from pydantic import ValidationError

from streamer.ledger import keys
from streamer.ledger.connection import Client
from streamer.ledger.scripts import read
from streamer.model.campaign import CampaignState, Definition, Message

PROBE_FIELDS = ("state", "version", "start_at")
"""What `read_probe` takes the values of: fields of the hash `keys.campaign(…)`, which `probe.lua`
reads in this order."""


_ACTIVE, _PAUSED, _CANCELLED = (
    CampaignState.ACTIVE,
    CampaignState.PAUSED,
    CampaignState.CANCELLED,
)


class CampaignExistsError(RuntimeError):
    """The campaign is defined already, and not like this; the message says what differs."""


class UnreadableDefinitionError(RuntimeError):
    """What stands in the ledger is no definition that this version can read."""


class CampaignProbe(NamedTuple):
    """What a worker asks about a campaign before each batch.

    Attributes:
        state: None if nobody defined it or set its state; paused also before its `start_at`.
        version: changes if and only if the definition does; None if there is none.
    """

    state: CampaignState | None
    version: str | None


@dataclass(frozen=True, slots=True)
class Campaign:
    """A defined campaign."""

    definition: Definition
    version: str
    state: CampaignState
    created_at: datetime


def create(client: Client, definition: Definition) -> bool:
    """Define a campaign, all or nothing; returns False if it was there, equal to this.

    A definition is never replaced: of a campaign that runs, some recipients would have got one
    mail and some another.

    Raises:
        CampaignExistsError: it is defined otherwise.
        UnreadableDefinitionError: it is defined, but not so that it can be compared.
    """
    organization, campaign_id = definition.organization_id, definition.campaign_id
    key = keys.campaign(organization, campaign_id)
    written = _write(definition)
    version = blake2b(written, digest_size=8).hexdigest()
    script = client.register_script(read("create_campaign"))
    start_at = "" if definition.start_at is None else _timestamp(definition.start_at)
    existing = script(keys=[key], args=[written, version, datetime.now(UTC).isoformat(), start_at])
    if existing is not None:
        found = _read(key, existing)
        if differences := _differences(found, definition):
            raise CampaignExistsError(
                f"campaign {organization}/{campaign_id} is defined already, with another "
                f"{', '.join(differences)}; a definition cannot be changed: "
                f"choose another campaign id"
            )
    # After the hash, also when that was there: whoever wrote it may have been cut off here.
    client.sadd(keys.campaigns(organization), campaign_id)
    client.sadd(keys.ORGANIZATIONS, organization)
    return existing is None


def load(client: Client, organization: str, campaign_id: str) -> Campaign | None:
    """Read a campaign; None if it is not defined.

    Raises:
        UnreadableDefinitionError: it cannot be read.
    """
    key = keys.campaign(organization, campaign_id)
    fields = ("definition", *PROBE_FIELDS, "created_at")
    values = cast(list[bytes | None], client.hmget(key, fields))
    stored, state, version, start_at, created_at = values
    if stored is None or version is None:
        return None
    return Campaign(
        definition=_read(key, stored),
        version=version.decode(),
        state=_state(state, start_at) or CampaignState.ACTIVE,
        created_at=datetime.fromisoformat((created_at or b"1970-01-01T00:00:00+00:00").decode()),
    )


def load_message(client: Client, organization: str, campaign_id: str) -> tuple[str, Message] | None:
    """The version of a campaign's definition and its message; None if it is not defined.

    Raises:
        UnreadableDefinitionError: it cannot be read.
    """
    key = keys.campaign(organization, campaign_id)
    stored, version = cast(list[bytes | None], client.hmget(key, ("definition", "version")))
    if stored is None or version is None:
        return None
    return version.decode(), _read(key, stored)


def state(client: Client, organization: str, campaign_id: str) -> CampaignState | None:
    """The campaign's state; None if nobody defined it or set its state."""
    fields = ("state", "start_at")
    key = keys.campaign(organization, campaign_id)
    return _state(*cast(list[bytes | None], client.hmget(key, fields)))


def pause(client: Client, organization: str, campaign_id: str) -> CampaignState:
    """Send no more of a campaign for now; returns the state that it has then.

    What is pinned already is finished. One that is cancelled or completed stays that.
    """
    return _change(client, organization, campaign_id, _PAUSED, (_ACTIVE, _PAUSED))


def resume(client: Client, organization: str, campaign_id: str) -> CampaignState:
    """Go on with a paused campaign, or start one before its time; returns the state it has then.

    One that is cancelled or completed stays that.
    """
    return _change(client, organization, campaign_id, _ACTIVE, (_ACTIVE, _PAUSED))


def cancel(client: Client, organization: str, campaign_id: str) -> CampaignState:
    """Never send the rest of a campaign; returns the state that it has then.

    One that is completed stays that.
    """
    return _change(client, organization, campaign_id, _CANCELLED, (_ACTIVE, _PAUSED, _CANCELLED))


def _change(
    client: Client, organization: str, campaign_id: str, to: str, allowed: Sequence[str]
) -> CampaignState:
    script = client.register_script(read("change_state"))
    reply = script(keys=[keys.campaign(organization, campaign_id)], args=[to, *allowed])
    return _state(cast(bytes, reply), None) or _PAUSED


def read_probe(values: Sequence[bytes | None]) -> CampaignProbe:
    """Read the values of `PROBE_FIELDS`, as HMGET answers them."""
    state, version, start_at = values
    return CampaignProbe(_state(state, start_at), None if version is None else version.decode())


def ids(client: Client, organization: str) -> list[str]:
    """The ids of the organization's defined campaigns, sorted."""
    return _sorted(cast(set[bytes], client.smembers(keys.campaigns(organization))))


def organizations(client: Client) -> list[str]:
    """The organizations that have defined campaigns, sorted."""
    return _sorted(cast(set[bytes], client.smembers(keys.ORGANIZATIONS)))


def _sorted(members: Iterable[bytes]) -> list[str]:
    return sorted(member.decode() for member in members)


def _timestamp(moment: datetime) -> str:
    return str(round(moment.timestamp()))


def _state(value: bytes | None, start_at: bytes | None) -> CampaignState | None:
    if value is None:
        return None
    try:
        found = CampaignState(value.decode())
        early = start_at is not None and time.time() < int(start_at)
        return _PAUSED if early and found is _ACTIVE else found
    except ValueError:
        # A newer version's state, or a mistake: nothing is sent, and nothing is lost.
        return CampaignState.PAUSED


def _write(definition: Definition) -> bytes:
    # Sorted, so that equal definitions are equal bytes and have one version.
    content = definition.model_dump(mode="json", by_alias=True)
    return orjson.dumps(content, option=orjson.OPT_SORT_KEYS)


def _read(key: str, stored: bytes) -> Definition:
    try:
        return Definition.model_validate_json(stored)
    except ValidationError as error:
        raise UnreadableDefinitionError(
            f"the definition at {key} cannot be read: {error}"
        ) from None


def _differences(found: Definition, wanted: Definition) -> list[str]:
    return [
        field.alias or name
        for name, field in Definition.model_fields.items()
        if getattr(found, name) != getattr(wanted, name)
    ]
