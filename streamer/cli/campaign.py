"""`streamer campaign`: what is sent to a campaign's recipients."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from textwrap import indent
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
    show_json,
    show_table,
    warn,
)
from streamer.cli.definitions import BadDefinitionError
from streamer.ledger import campaigns
from streamer.ledger.campaigns import (
    Campaign,
    CampaignExistsError,
    Standing,
    UnreadableDefinitionError,
)
from streamer.ledger.connection import Client
from streamer.model.campaign import CampaignName, CampaignState, Definition
from streamer.model.reasons import Status
from streamer.progress.fold import CampaignKey
from streamer.progress.report import Reporter
from streamer.progress.store import Store

app = typer.Typer(no_args_is_help=True, help="What is sent to a campaign's recipients.")

Fields = dict[str, JsonValue]


@app.command()
def create(
    source: Annotated[
        str,
        typer.Argument(
            metavar="FILE|CAMPAIGN",
            help="The definition as JSON with both ids (-: standard input); "
            "or ORGANIZATION/CAMPAIGN, and the content by the options.",
        ),
    ],
    from_: Annotated[
        str | None, typer.Option("--from", help="Sender, as 'Acme <news@acme.test>'.")
    ] = None,
    subject: Annotated[str | None, typer.Option(help="Subject (a template).")] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Template of the HTML body.")
    ] = None,
    text: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Template of the text body.")
    ] = None,
    reply_to: Annotated[
        list[str] | None, typer.Option(help="Address for replies; may be given again.")
    ] = None,
    expected_recipients: Annotated[
        int | None, typer.Option(min=0, help="How many recipients there will be.")
    ] = None,
    expires_at: Annotated[
        str | None, typer.Option(help="Send to nobody from then on (RFC 3339 with an offset).")
    ] = None,
    start_at: Annotated[
        str | None,
        typer.Option(help="Send to nobody before then (RFC 3339 with an offset)."),
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Define a campaign. The same definition again changes nothing, another one is refused."""
    settings = read_settings(config)
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
            typer.echo(f"{name}: {'created' if created else 'there already, the same'}")


@app.command()
def show(
    campaign: CampaignArgument, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Show a campaign's definition, its state, and how far it is."""
    settings = read_settings(config)
    with redis_client(settings) as client:
        found = _load(client, campaign)
        reporter = Reporter(client, Store(client, settings.kafka.group_id))
        report = reporter.report(CampaignKey(*campaign))
    progress = None if report is None else report.as_json(datetime.now(UTC))
    if as_json:
        show_json(_as_json(found) | {"progress": progress})
        return
    typer.echo(f"campaign: {campaign}")
    typer.echo(f"state: {found.state}")
    for why in _reasons(found):
        typer.echo(f"{found.state}: {why}")
    typer.echo(f"created_at: {found.created_at.isoformat()}")
    if report is not None and report.counts.received:
        words = ("received", *Status, "dead", "parked", "in_flight")
        counts = {str(word): (progress or {})[word] for word in words}
        typer.echo(f"progress:{_as_text({word: n for word, n in counts.items() if n})}")
    for field, value in _content(found.definition).items():
        typer.echo(f"{field}:{_as_text(value)}")


@app.command("list")
def list_(
    organization: Annotated[
        str | None,
        typer.Argument(metavar="[ORGANIZATION]", parser=parse_id, help="Of this one only."),
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the campaigns that are defined."""
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
            typer.echo(f"{row[0]}, {campaign.state}: {why}")


@app.command()
def pause(
    campaign: CampaignArgument, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Send no more of a campaign for now. What is handed over already is finished."""
    _change(campaign, config, CampaignState.PAUSED, campaigns.pause, as_json=as_json)


@app.command()
def resume(
    campaign: CampaignArgument,
    now: Annotated[
        bool, typer.Option("--now", help="Start it, too, if its --start-at has not come.")
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Go on with a paused campaign. Nobody gets it twice."""
    change = partial(campaigns.resume, now=now)
    _change(campaign, config, CampaignState.ACTIVE, change, as_json=as_json)


@app.command()
def cancel(
    campaign: CampaignArgument, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Never send the rest of a campaign: its recipients end as skipped, reason cancelled."""
    _change(campaign, config, CampaignState.CANCELLED, campaigns.cancel, as_json=as_json)


def _change(
    campaign: CampaignName,
    config: Path | None,
    wanted: CampaignState,
    change: Callable[[Client, str, str], Standing],
    *,
    as_json: bool,
) -> None:
    settings = read_settings(config)
    with redis_client(settings) as client:
        state, waits_until = change(client, *campaign)
    # A completed one goes on: what comes late is sent.
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
        typer.echo(f"{campaign}: waits until {_time(waits_until)}; --now starts it at once")
    elif state is wanted or goes_on:
        typer.echo(f"{campaign}: {state}")
    if state is not wanted and not goes_on and waits_until is None:
        fail(f"{campaign} is {state}, and stays that")


def _from_file(path: Path) -> Definition:
    try:
        return definitions.from_json(definitions.read_text(path))
    except BadDefinitionError as error:
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
    except BadDefinitionError as error:
        fail(f"not defined: {error}", WRONG_USE)


def _load(client: Client, name: CampaignName) -> Campaign:
    try:
        found = campaigns.load(client, *name)
    except UnreadableDefinitionError as error:
        fail(error)
    if found is None:
        why = campaigns.paused_for(client, *name)
        if why is not None:  # its events bring their own messages
            fail(f"campaign {name} is not defined, and is paused: {why}")
        fail(f"campaign {name} is not defined; define it with: streamer campaign create")
    return found


def _all(client: Client, organization: str | None) -> Iterator[Campaign]:
    for each in [organization] if organization else campaigns.organizations(client):
        for campaign_id in campaigns.ids(client, each):
            try:
                found = campaigns.load(client, each, campaign_id)
            except UnreadableDefinitionError as error:
                warn(str(error))  # the others can still be listed
                continue
            if found is not None:
                yield found


def _reasons(campaign: Campaign) -> list[str]:
    """Why it is paused, where no operator's word alone did that."""
    waits_until = _time(campaign.waits_until)
    found = [] if waits_until is None else [f"until {waits_until}, when it starts"]
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


def _as_text(value: JsonValue) -> str:
    if not isinstance(value, str):
        return f" {orjson.dumps(value).decode()}"
    if "\n" not in value:
        return f" {value}"
    return "\n" + indent(value.rstrip("\n"), "    ")
