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
    FAILED,
    WRONG_USE,
    CampaignArgument,
    ConfigOption,
    JsonOption,
    YesOption,
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
from streamer.cli.completion import complete_organization
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
from streamer.cli.counted import reports, sent_and_left
from streamer.cli.definitions import InvalidDefinitionError
from streamer.cli.names import require_campaign, require_organization
from streamer.cli.output import confirm, say_block
from streamer.ledger import campaigns, drafts
from streamer.ledger.campaigns import (
    Campaign,
    CampaignExistsError,
    CampaignStatus,
    UnreadableDefinitionError,
)
from streamer.ledger.connection import Client
from streamer.model.campaign import CampaignName, CampaignState, Definition
from streamer.model.instants import as_local_text
from streamer.model.nearest import did_you_mean
from streamer.model.plural import plural
from streamer.model.reasons import Status
from streamer.model.standing import span
from streamer.progress.counts import STATUSES
from streamer.progress.report import Report
from streamer.progress.standings import Standings
from streamer.settings import Settings

app = typer.Typer(no_args_is_help=True, help="Define and control campaigns.")


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
    from_: FromOption = None,
    subject: SubjectOption = None,
    html: HtmlOption = None,
    text: TextOption = None,
    reply_to: ReplyToOption = None,
    expected_recipients: ExpectedOption = None,
    expires_at: ExpiresOption = None,
    start_at: StartOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Define a campaign. Repeating the same definition is a no-op; a different one is refused."""
    settings = read_settings(config)
    given = given_fields(
        from_, subject, html, text, reply_to, expected_recipients, expires_at, start_at
    )
    try:
        if given:
            named = parse_campaign(source)
            ids: Fields = {
                "organization_id": named.organization,
                "campaign_id": named.campaign_id,
            }
            definition = definitions.from_fields(ids | given)
        else:
            definition = definitions.from_json(definitions.read_text(Path(source)))
    except InvalidDefinitionError as error:
        fail(f"not defined: {error}", WRONG_USE if given else FAILED)
    name = CampaignName(definition.organization_id, definition.campaign_id)
    with redis_client(settings) as client:
        try:
            created = campaigns.create(client, definition)
        except (CampaignExistsError, UnreadableDefinitionError) as error:
            fail(error)
        found = load(client, name)
        words = _standing(client, settings, name)
    if as_json:
        show_json({"created": created, **_as_json(found, words)})
    elif not created:
        say(f"{name}: already exists, unchanged")
    else:
        say(f"{name}: created" + ("" if words == "draft" else f"; it is {words}"))


@app.command()
def show(
    campaign: CampaignArgument,
    versions: Annotated[
        bool, typer.Option("--versions", help="Show the definitions that were replaced, too.")
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a campaign's definition, state and progress."""
    settings = read_settings(config)
    with redis_client(settings) as client:
        found = load(client, campaign)
        report = reports(client, settings, [campaign]).get(campaign)
        words = _standing(client, settings, campaign)
        earlier = drafts.earlier_versions(client, *campaign) if versions else []
    if as_json:
        shown = _as_json(found, words) | {"progress": _progress(report, datetime.now(UTC))}
        if versions:
            shown["earlier_versions"] = [
                {
                    "version": each.version,
                    "replaced_at": each.replaced_at.isoformat(),
                    "definition": _content(each.definition),
                }
                for each in earlier
            ]
        show_json(shown)
        return
    say(f"campaign: {campaign}")
    say(f"state: {words}")
    say(f"created: {as_local_text(found.created_at)}")
    if report is not None and report.counts.received:
        numbers = {"received": report.counts.received, **_ended(report)}
        numbers["parked"] = report.counts.parked
        say(f"progress: {', '.join(f'{word} {n:,}' for word, n in numbers.items() if n)}")
    _say_definition(found.definition)
    for each in earlier:
        say()
        say(f"version {each.version}, replaced at {as_local_text(each.replaced_at)}:")
        _say_definition(each.definition)


@app.command("list")
def list_(
    organization: Annotated[
        str | None,
        typer.Argument(
            metavar="[ORGANIZATION]",
            parser=parse_id,
            autocompletion=complete_organization,
            help="Only this organization.",
        ),
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the defined campaigns with their states, progress and age.

    PROGRESS is the share of the recipients that have ended, where their number is known: it is once
    `expected_recipients` or `produce --done` gave it, or the campaign is completed.
    """
    settings = read_settings(config)
    with redis_client(settings) as client:
        if organization is not None:
            require_organization(client, settings, organization)
        found = {_name(each): each for each in _all(client, organization)}
        progress = reports(client, settings, [*found])
        now = datetime.now(UTC)
        words = Standings(client, settings).of([*found], progress, now)
    if as_json:
        show_json(
            [
                _as_json(campaign, words[name]) | {"progress": _progress(progress.get(name), now)}
                for name, campaign in found.items()
            ]
        )
        return
    rows = []
    for name, campaign in found.items():
        report = progress.get(name)
        sent, left = sent_and_left(report)
        failed = 0 if report is None else report.counts.ended(Status.FAILED)
        numbers = (_percent(report), f"{sent:,}", f"{failed:,}", f"{left:,}")
        age = span(now - campaign.created_at)
        rows.append((str(name), words[name], *numbers, age, campaign.definition.subject or ""))
    show_table(("CAMPAIGN", "STATE", "PROGRESS", "SENT", "FAILED", "LEFT", "AGE", "SUBJECT"), rows)


@app.command()
def pause(
    campaign: CampaignArgument, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Pause a campaign. Mails already handed over are still sent."""
    settings = read_settings(config)
    _change(campaign, settings, CampaignState.PAUSED, campaigns.pause, as_json=as_json)


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
    settings = read_settings(config)
    change = partial(campaigns.resume, now=now)
    _change(campaign, settings, CampaignState.ACTIVE, change, as_json=as_json)


@app.command()
def cancel(
    campaign: CampaignArgument,
    yes: YesOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Cancel a campaign for good: its remaining recipients are skipped with reason cancelled."""
    settings = read_settings(config)
    with redis_client(settings) as client:
        require_campaign(client, settings, campaign)
        sent, left = sent_and_left(reports(client, settings, [campaign]).get(campaign))
        confirm(
            f"{campaign}: {plural(sent, 'recipient')} sent; cancelling skips the other {left:,} "
            f"that are known, and all that may follow, for good",
            "nothing was cancelled",
            yes=yes,
        )
    _change(campaign, settings, CampaignState.CANCELLED, campaigns.cancel, as_json=as_json)


def _change(
    campaign: CampaignName,
    settings: Settings,
    wanted: CampaignState,
    change: Callable[[Client, str, str], CampaignStatus],
    *,
    as_json: bool,
) -> None:
    with redis_client(settings) as client:
        require_campaign(client, settings, campaign)
        state, waits_until = change(client, *campaign)
        words = _standing(client, settings, campaign)
    # A completed campaign keeps sending: late records are still mailed.
    goes_on = wanted is CampaignState.ACTIVE and state is CampaignState.COMPLETED
    if as_json:
        show_json(
            {
                "organization_id": campaign.organization,
                "campaign_id": campaign.campaign_id,
                "state": state.value,
                "standing": words,
                "waits_until": _time(waits_until),
            }
        )
    elif waits_until is not None and wanted is CampaignState.ACTIVE:
        say(f"{campaign}: {words}; --now starts it immediately")
    elif state is wanted or goes_on:
        say(f"{campaign}: {words}")
    if state is not wanted and not goes_on and waits_until is None:
        fail(f"{campaign} is {words}, which cannot be changed")


def _standing(client: Client, settings: Settings, name: CampaignName) -> str:
    progress = reports(client, settings, [name])
    return Standings(client, settings).of([name], progress, datetime.now(UTC))[name]


def load(client: Client, name: CampaignName) -> Campaign:
    """Read a defined campaign; exits with 1 if there is none of this name."""
    try:
        found = campaigns.load(client, *name)
    except UnreadableDefinitionError as error:
        fail(error)
    if found is None:
        why = campaigns.paused_for(client, *name)
        if why is not None:  # its events carry their own messages
            fail(f"campaign {name} is not defined and is paused: {why}")
        near = did_you_mean(str(name), map(str, campaigns.names(client)))
        fail(f"campaign {name} is not defined{near or '; see: streamer campaign create'}")
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


def _name(campaign: Campaign) -> CampaignName:
    return CampaignName(campaign.definition.organization_id, campaign.definition.campaign_id)


def _ended(report: Report) -> dict[str, int]:
    return {status: report.counts.ended(status) for status in STATUSES}


def _progress(report: Report | None, now: datetime) -> dict[str, JsonValue] | None:
    return None if report is None else report.as_json(now)


def _percent(report: Report | None) -> str:
    """The share that has ended, rounded down so that 100 % is all; a dash if it is unknown."""
    if report is None or not report.total:
        return "-"
    return f"{100 * report.ended // report.total} %"


def _as_json(campaign: Campaign, words: str) -> dict[str, JsonValue]:
    definition = campaign.definition
    return {
        "organization_id": definition.organization_id,
        "campaign_id": definition.campaign_id,
        "state": campaign.state.value,
        "standing": words,
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


def _say_definition(definition: Definition) -> None:
    for field, value in _content(definition).items():
        _say_field(field, value)


def _say_field(name: str, value: JsonValue) -> None:
    if isinstance(value, str) and "\n" in value:
        say(f"{name}:")
        say_block(value)
    else:
        say(f"{name}: {value if isinstance(value, str) else orjson.dumps(value).decode()}")
