"""`streamer campaign edit`, `delete` and `copy`: changing what was not sent yet."""

import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from difflib import unified_diff
from pathlib import Path
from typing import Annotated

import orjson
import typer
from pydantic import JsonValue

from streamer import private_files
from streamer.cli import definitions
from streamer.cli.campaign import load
from streamer.cli.common import (
    FAILED,
    WRONG_USE,
    CampaignArgument,
    ConfigOption,
    JsonOption,
    YesOption,
    fail,
    parse_campaign,
    read_settings,
    redis_client,
    say,
    show_json,
    warn,
)
from streamer.cli.content_options import (
    ExpectedOption,
    ExpiresOption,
    Fields,
    FromOption,
    HtmlOption,
    ReplyToOption,
    StartOption,
    SubjectOption,
    TextOption,
    given_fields,
)
from streamer.cli.definitions import InvalidDefinitionError
from streamer.cli.output import confirm
from streamer.ledger import campaigns, drafts
from streamer.ledger.campaigns import CampaignExistsError, UnreadableDefinitionError
from streamer.ledger.drafts import NotADraftError
from streamer.model.campaign import CampaignName, Definition
from streamer.progress.store import Store

_OF_ONE_RUN = ("start_at", "expires_at", "expected_recipients")
"""Fields that `copy` leaves out."""


def edit(
    campaign: CampaignArgument,
    file: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE]", help="The new definition as JSON; -: standard input."),
    ] = None,
    from_: FromOption = None,
    subject: SubjectOption = None,
    html: HtmlOption = None,
    text: TextOption = None,
    reply_to: ReplyToOption = None,
    expected_recipients: ExpectedOption = None,
    expires_at: ExpiresOption = None,
    start_at: StartOption = None,
    yes: YesOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Change a campaign's definition before its first recipient is read.

    With options, only these fields change; without options and FILE, the definition opens in
    $EDITOR. The difference is shown first. Earlier versions are kept, see `campaign show
    --versions`. Once this command has returned, nobody gets a mail from an earlier version.
    """
    settings = read_settings(config)
    given = given_fields(
        from_, subject, html, text, reply_to, expected_recipients, expires_at, start_at
    )
    if given and file is not None:
        fail("give FILE or options, not both", WRONG_USE)
    with redis_client(settings) as client:
        before = load(client, campaign)
        if not before.is_draft:
            fail(
                f"campaign {campaign} has begun, and all its recipients get the same mail; to send "
                f"another one: streamer campaign copy {campaign} {campaign.organization}/NEW"
            )
        if given:
            after = _changed(before.definition, given)
        elif file is not None:
            after = _from_file(campaign, file)
        else:
            after = _from_editor(before.definition)
        lines = list(difference(before.definition, after))
        if lines:
            if not as_json:
                for line in lines:
                    say(line[1:], mark=line[:1], colour=_COLOURS.get(line[:1]))
            confirm(f"{campaign}: the definition changes as shown", "nothing was changed", yes=yes)
            try:
                drafts.edit(client, before, after)
            except NotADraftError as error:
                fail(error)
        found = load(client, campaign)
    if as_json:
        show_json(
            {
                "organization_id": campaign.organization,
                "campaign_id": campaign.campaign_id,
                "edited": bool(lines),
                "version": found.version,
                "earlier_version": before.version,
            }
        )
    else:
        say(f"{campaign}: {'edited' if lines else 'unchanged'}, version {found.version}")


def delete(
    campaign: CampaignArgument,
    yes: YesOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Delete a campaign before its first recipient is read.

    Recipients of it that were produced already become dead letters.
    """
    settings = read_settings(config)
    with redis_client(settings) as client:
        found = load(client, campaign)
        if not found.is_draft:
            fail(f"campaign {campaign} has begun: see streamer campaign cancel and campaign drop")
        confirm(
            f"{campaign}: its definition and {len(drafts.earlier_versions(client, *campaign))} "
            f"earlier versions are deleted; recipients that were produced become dead letters",
            "nothing was deleted",
            yes=yes,
        )
        try:
            drafts.delete(client, *campaign)
        except NotADraftError as error:
            fail(error)
        Store(client, settings.kafka.group_id).forget(campaign)
    if as_json:
        show_json(
            {
                "organization_id": campaign.organization,
                "campaign_id": campaign.campaign_id,
                "deleted": True,
            }
        )
    else:
        say(f"{campaign}: deleted")


def copy(
    campaign: CampaignArgument,
    new: Annotated[
        CampaignName,
        typer.Argument(metavar="NEW", parser=parse_campaign, help="ORGANIZATION/CAMPAIGN."),
    ],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Define a campaign with the content of another one, without its times and numbers."""
    settings = read_settings(config)
    with redis_client(settings) as client:
        old = load(client, campaign).definition
        ids: Fields = {"organization_id": new.organization, "campaign_id": new.campaign_id}
        definition = _changed(old, ids | dict.fromkeys(_OF_ONE_RUN))
        try:
            created = campaigns.create(client, definition)
        except (CampaignExistsError, UnreadableDefinitionError) as error:
            fail(error)
    left_out = [name for name in _OF_ONE_RUN if getattr(old, name) is not None]
    if left_out:
        warn(f"not copied: {', '.join(left_out)}")
    if as_json:
        show_json(
            {
                "created": created,
                "organization_id": new.organization,
                "campaign_id": new.campaign_id,
                "not_copied": left_out,
            }
        )
    else:
        say(f"{new}: {'created' if created else 'already exists, unchanged'}")


def difference(before: Definition, after: Definition) -> Iterator[str]:
    """Yield the lines that differ, each after a `-`, `+` or blank; none if nothing differs."""
    found = unified_diff(_lines(before), _lines(after), lineterm="", n=2)
    yield from (line for line in found if not line.startswith(("---", "+++", "@@")))


_COLOURS = {"-": "red", "+": "green"}


def _changed(definition: Definition, changes: Fields) -> Definition:
    try:
        return definitions.from_fields(_fields(definition) | changes)
    except InvalidDefinitionError as error:
        fail(f"nothing was changed: {error}", WRONG_USE)


def _from_file(name: CampaignName, file: Path) -> Definition:
    try:
        definition = definitions.from_json(definitions.read_text(file))
    except InvalidDefinitionError as error:
        fail(f"nothing was changed: {error}")
    named = CampaignName(definition.organization_id, definition.campaign_id)
    if named != name:
        fail(f"nothing was changed: {file} defines {named}; to define it, campaign create")
    return definition


def _from_editor(definition: Definition) -> Definition:
    """Let the operator edit the definition until it is valid."""
    if not sys.stdin.isatty():
        fail("nothing was changed: without a terminal give FILE or options", WRONG_USE)
    text = orjson.dumps(_fields(definition), option=orjson.OPT_INDENT_2).decode()
    while True:
        text = _edited(text)
        try:
            after = definitions.from_json(text)
            if _ids(after) == _ids(definition):
                return after
            warn("the ids cannot be changed: see streamer campaign copy")
        except InvalidDefinitionError as error:
            warn(str(error))
        if not typer.confirm("Edit again?", default=True, err=True):
            fail("nothing was changed", FAILED)


def _edited(text: str) -> str:
    """Let the operator edit a text in $VISUAL or $EDITOR."""
    command = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    with tempfile.TemporaryDirectory(prefix="streamer-edit-") as folder:  # for its owner alone
        file = Path(folder) / "campaign.json"
        with private_files.create(file) as stream:
            stream.write(f"{text}\n".encode())
        try:
            subprocess.run([*shlex.split(command), str(file)], check=True)
            return file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError, subprocess.CalledProcessError) as error:
            fail(f"nothing was changed: {command}: {error}")


def _ids(definition: Definition) -> tuple[str, str]:
    return definition.organization_id, definition.campaign_id


def _fields(definition: Definition) -> Fields:
    fields: Fields = definition.model_dump(mode="json", by_alias=True, exclude_none=True)
    return fields


def _lines(definition: Definition) -> list[str]:
    """Return a definition as lines, in which a text of several lines stays one line each."""
    lines: list[str] = []
    for name, value in _fields(definition).items():
        lines += _field_lines(name, value)
    return lines


def _field_lines(name: str, value: JsonValue) -> list[str]:
    if not isinstance(value, str):
        return [f"{name}: {orjson.dumps(value).decode()}"]
    if "\n" not in value:
        return [f"{name}: {value}"]
    return [f"{name}:", *(f"    {line}" for line in value.splitlines())]
