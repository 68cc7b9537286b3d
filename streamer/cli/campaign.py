"""`streamer campaign`: define and control campaigns."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated

import orjson
import typer
from pydantic import JsonValue

from streamer.cli import definitions
from streamer.cli.common import (
    WRONG_USE,
    CampaignArgument,
    ConfigOption,
    JsonOption,
    fail,
    parse_campaign,
    parse_id,
    read_settings,
    redis_client,
    say,
    show_json,
    show_table,
    warn,
)
from streamer.cli.definitions import InvalidDefinitionError
from streamer.cli.output import say_block
from streamer.ledger import campaigns
from streamer.ledger.campaigns import (
    Campaign,
    CampaignExistsError,
    CampaignStatus,
    UnreadableDefinitionError,
)
from streamer.ledger.connection import Client
from streamer.model.campaign import CampaignName, CampaignState, Definition
from streamer.model.reasons import Status
from streamer.progress.fold import CampaignKey
from streamer.progress.report import Reporter
from streamer.progress.store import Store

app = typer.Typer(no_args_is_help=True, help="Define and control campaigns.")

Fields = dict[str, JsonValue]


@app.command()
def create(
    source: Annotated[
        str,
        typer.Argument(
            metavar="FILE|CAMPAIGN",
            help="Definition as JSON, including both ids (-: standard input); "
            "or ORGANIZATION/CAMPAIGN, with the content given by options.",
        ),
    ],
    from_: Annotated[
        str | None, typer.Option("--from", help="Sender, e.g. 'Acme <news@acme.test>'.")
    ] = None,
    subject: Annotated[str | None, typer.Option(help="Subject (a template).")] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="HTML body (a template).")
    ] = None,
    text: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Text body (a template).")
    ] = None,
    reply_to: Annotated[
        list[str] | None, typer.Option(help="Reply-to address; repeatable.")
    ] = None,
    expected_recipients: Annotated[
        int | None, typer.Option(min=0, help="Expected number of recipients.")
    ] = None,
    expires_at: Annotated[
        str | None, typer.Option(help="Stop sending at this time (RFC 3339 with an offset).")
    ] = None,
    start_at: Annotated[
        str | None,
        typer.Option(help="Send nothing before this time (RFC 3339 with an offset)."),
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Define a campaign. Repeating the same definition is a no-op; a different one is refused."""
    settings = read_settings(config)
    if html == text == Path("-"):
        fail("--html and --text cannot both be read from standard input", WRONG_USE)
    fields: Fields = {
        "from": from_,
        "subject": subject,
        "reply_to": [*reply_to] if reply_to else None,
        "expected_recipients": expected_recipients,
        "expires_at": expires_at,
        "start_at": start_at,
    }
    given: Fields = {name: value for name, value in fields.items() if value is not None}
    if not given and html is None and text is None:
        definition = _from_file(Path(source))
    else:
        definition = _from_options(parse_campaign(source), given, html, text)
    name = CampaignName(definition.organization_id, definition.campaign_id)
    with redis_client(settings) as client:
        try:
            created = campaigns.create(client, definition)
        except (CampaignExistsError, UnreadableDefinitionError) as error:
            fail(error)
        if as_json:
            show_json({"created": created, **_as_json(_load(client, name))})
        else:
            say(f"{name}: {'created' if created else 'already exists, unchanged'}")


@app.command()
def show(
    campaign: CampaignArgument, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Show a campaign's definition, state and progress."""
    settings = read_settings(config)
    with redis_client(settings) as client:
        found = _load(client, campaign)
        reporter = Reporter(client, Store(client, settings.kafka.group_id))
        report = reporter.report(CampaignKey(*campaign))
    progress = None if report is None else report.as_json(datetime.now(UTC))
    if as_json:
        show_json(_as_json(found) | {"progress": progress})
        return
    say(f"campaign: {campaign}")
    say(f"state: {found.state}")
    for why in _reasons(found):
        say(f"{found.state}: {why}")
    say(f"created_at: {found.created_at.isoformat()}")
    if report is not None and report.counts.received:
        words = ("received", *Status, "dead", "parked", "in_flight")
        counts = {str(word): (progress or {})[word] for word in words}
        _say_field("progress", {word: n for word, n in counts.items() if n})
    for field, value in _content(found.definition).items():
        _say_field(field, value)


@app.command("list")
def list_(
    organization: Annotated[
        str | None,
        typer.Argument(metavar="[ORGANIZATION]", parser=parse_id, help="Only this organization."),
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the defined campaigns."""
    settings = read_settings(config)
    with redis_client(settings) as client:
        found = list(_all(client, organization))
    if as_json:
        show_json([_as_json(campaign) for campaign in found])
        return
    rows = [
        (
            f"{campaign.definition.organization_id}/{campaign.definition.campaign_id}",
            str(campaign.state),
            campaign.created_at.isoformat(timespec="seconds"),
            campaign.definition.subject or "",
        )
        for campaign in found
    ]
    show_table(("CAMPAIGN", "STATE", "CREATED", "SUBJECT"), rows)
    for campaign, row in zip(found, rows, strict=True):
        for why in _reasons(campaign):
            say(f"{row[0]}, {campaign.state}: {why}")


@app.command()
def pause(
    campaign: CampaignArgument, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Pause a campaign. Mails already handed over are still sent."""
    _change(campaign, config, CampaignState.PAUSED, campaigns.pause, as_json=as_json)


@app.command()
def resume(
    campaign: CampaignArgument,
    now: Annotated[
        bool, typer.Option("--now", help="Start even if its --start-at is still ahead.")
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Resume a paused campaign. No recipient is mailed twice."""
    change = partial(campaigns.resume, now=now)
    _change(campaign, config, CampaignState.ACTIVE, change, as_json=as_json)


@app.command()
def cancel(
    campaign: CampaignArgument, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Cancel a campaign: its remaining recipients are skipped with reason cancelled."""
    _change(campaign, config, CampaignState.CANCELLED, campaigns.cancel, as_json=as_json)


def _change(
    campaign: CampaignName,
    config: Path | None,
    wanted: CampaignState,
    change: Callable[[Client, str, str], CampaignStatus],
    *,
    as_json: bool,
) -> None:
    settings = read_settings(config)
    with redis_client(settings) as client:
        state, waits_until = change(client, *campaign)
    # A completed campaign keeps sending: late records are still mailed.
    goes_on = wanted is CampaignState.ACTIVE and state is CampaignState.COMPLETED
    if as_json:
        show_json(
            {
                "organization_id": campaign.organization,
                "campaign_id": campaign.campaign_id,
                "state": state.value,
                "waits_until": _time(waits_until),
            }
        )
    elif waits_until is not None and wanted is CampaignState.ACTIVE:
        say(f"{campaign}: starts at {_time(waits_until)}; --now starts it immediately")
    elif state is wanted or goes_on:
        say(f"{campaign}: {state}")
    if state is not wanted and not goes_on and waits_until is None:
        fail(f"{campaign} is {state}, which cannot be changed")


def _from_file(path: Path) -> Definition:
    try:
        return definitions.from_json(definitions.read_text(path))
    except InvalidDefinitionError as error:
        fail(f"not defined: {error}")


def _from_options(
    name: CampaignName, given: Fields, html: Path | None, text: Path | None
) -> Definition:
    fields: Fields = {
        "organization_id": name.organization,
        "campaign_id": name.campaign_id,
        **given,
    }
    try:
        for field, path in (("html", html), ("text", text)):
            if path is not None:
                fields[field] = definitions.read_text(path)
        return definitions.from_fields(fields)
    except InvalidDefinitionError as error:
        fail(f"not defined: {error}", WRONG_USE)


def _load(client: Client, name: CampaignName) -> Campaign:
    try:
        found = campaigns.load(client, *name)
    except UnreadableDefinitionError as error:
        fail(error)
    if found is None:
        why = campaigns.paused_for(client, *name)
        if why is not None:  # its events carry their own messages
            fail(f"campaign {name} is not defined and is paused: {why}")
        fail(f"campaign {name} is not defined; define it with: streamer campaign create")
    return found


def _all(client: Client, organization: str | None) -> Iterator[Campaign]:
    for each in [organization] if organization else campaigns.organizations(client):
        for campaign_id in campaigns.ids(client, each):
            try:
                found = campaigns.load(client, each, campaign_id)
            except UnreadableDefinitionError as error:
                warn(str(error))
                continue
            if found is not None:
                yield found


def _reasons(campaign: Campaign) -> list[str]:
    """Why a campaign is paused, unless an operator paused it."""
    waits_until = _time(campaign.waits_until)
    found = [] if waits_until is None else [f"starts at {waits_until}"]
    return found if campaign.paused_for is None else [*found, campaign.paused_for]


def _as_json(campaign: Campaign) -> dict[str, JsonValue]:
    definition = campaign.definition
    return {
        "organization_id": definition.organization_id,
        "campaign_id": definition.campaign_id,
        "state": campaign.state.value,
        "version": campaign.version,
        "waits_until": _time(campaign.waits_until),
        "paused_for": campaign.paused_for,
        "created_at": campaign.created_at.isoformat(),
        "definition": definition.model_dump(mode="json", by_alias=True, exclude_none=True),
    }


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def _content(definition: Definition) -> dict[str, JsonValue]:
    content: dict[str, JsonValue] = definition.model_dump(
        mode="json",
        by_alias=True,
        exclude_none=True,
        exclude={"organization_id", "campaign_id"},
    )
    return content


def _say_field(name: str, value: JsonValue) -> None:
    if isinstance(value, str) and "\n" in value:
        say(f"{name}:")
        say_block(value)
    else:
        say(f"{name}: {value if isinstance(value, str) else orjson.dumps(value).decode()}")
