"""`streamer suppress`: an organization's suppressed addresses."""

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import orjson
import typer

from streamer import private_files
from streamer.cli.addresses import AddressParser, from_arguments, from_file, from_stdin
from streamer.cli.common import (
    FAILED,
    WRONG_USE,
    ConfigOption,
    JsonOption,
    OrganizationArgument,
    YesOption,
    fail,
    read_settings,
    redis_client,
    say,
    show_json,
    show_table,
    warn,
)
from streamer.cli.names import known_organizations, require_organization
from streamer.cli.output import confirm, show_lines
from streamer.cli.recipient_file import open_file
from streamer.cli.rows import InvalidFileError
from streamer.ledger import suppression
from streamer.ledger.mail_events import MailEvents
from streamer.model.address import InvalidAddressError, normalise
from streamer.model.plural import plural
from streamer.model.printable import printable
from streamer.provider.accounts import NoKeyError
from streamer.provider.calls import CallError
from streamer.provider.client import ResendClient
from streamer.recovery.suppression_sync import Progress, SuppressionSync
from streamer.settings import Settings, SettingsError
from streamer.worker.process import make_accounts

app = typer.Typer(
    no_args_is_help=True, help="The suppressed addresses of an organization, which get no mail."
)

_SAY_EVERY_S = 5.0

Addresses = Annotated[
    list[str],
    typer.Argument(metavar="ADDRESS", show_default=False, help="-: read them from standard input."),
]
NewOption = Annotated[
    bool, typer.Option("--new", help="The organization has no campaign and no suppression yet.")
]


@app.command()
def add(
    organization: OrganizationArgument,
    addresses: Addresses,
    new: NewOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Suppress addresses: no batch pinned from now on contains them."""
    _add(read_settings(config), organization, _given(addresses), is_new=new, as_json=as_json)


@app.command("import")
def import_(
    organization: OrganizationArgument,
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="One address per line, or CSV with a column `email`; -: standard input.",
        ),
    ],
    new: NewOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Suppress the addresses in a file."""
    settings = read_settings(config)
    with ExitStack() as stack:
        stream, _ = open_file(file, stack)
        try:
            _add(settings, organization, from_file(stream), is_new=new, as_json=as_json)
        except InvalidFileError as error:
            fail(f"{file}: {error}; everything before it was imported, and repeating is safe")


@app.command()
def remove(
    organization: OrganizationArgument,
    addresses: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ADDRESS]...", help="-: read them from standard input."),
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="Every suppressed address.")] = False,
    yes: YesOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Stop suppressing addresses."""
    if all_ == bool(addresses):
        fail("give addresses or --all", WRONG_USE)
    settings = read_settings(config)
    parser = AddressParser()
    with redis_client(settings) as client:
        require_organization(client, settings, organization)
        if all_:
            count = suppression.count(client, organization)
            confirm(
                f"{organization}: {plural(count, 'address', 'addresses')} "
                f"that must get no mail would get it again",
                "nothing was removed",
                yes=yes,
            )
            removed, absent = suppression.clear(client, organization), 0
        else:
            normalised = parser.normalised(_given(addresses or []))
            removed = suppression.remove(client, organization, normalised)
            absent = parser.good - removed
    if as_json:
        show_json({"removed": removed, "absent": absent, **_bad(parser)})
    else:
        say(f"{organization}: {removed:,} removed, {absent:,} not suppressed")
    _end(parser)


@app.command()
def check(
    organization: OrganizationArgument,
    addresses: Addresses,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show whether each address is suppressed."""
    settings = read_settings(config)
    parser = AddressParser()
    normalised = list(parser.normalised(_given(addresses)))
    with redis_client(settings) as client:
        require_organization(client, settings, organization)
        found = suppression.check(client, organization, normalised)
    pairs = list(zip(normalised, found, strict=True))
    if as_json:
        checked = [{"address": address, "suppressed": is_in} for address, is_in in pairs]
        show_json({"addresses": checked, **_bad(parser)})
    else:
        rows = [(address, "yes" if is_in else "no") for address, is_in in pairs]
        show_table(("ADDRESS", "SUPPRESSED"), rows)
    _end(parser)


@app.command()
def show(
    address: Annotated[
        str, typer.Argument(metavar="ADDRESS", help="-: read it from standard input.")
    ],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show which organizations suppress an address, and why, since when and by which campaign.

    Whom an operator or another service has suppressed has no reason here.
    """
    settings = read_settings(config)
    try:
        normalised = normalise(from_stdin(address))
    except InvalidAddressError as error:
        fail(f"invalid address: {error}", WRONG_USE)
    with redis_client(settings) as client:
        organizations = sorted(known_organizations(client, settings))
        reasons = MailEvents(client, 0).reasons(organizations, normalised)
        found = {each: suppression.check(client, each, [normalised])[0] for each in organizations}
    shown = [each for each in organizations if found[each] or reasons[each]]
    if as_json:
        show_json(
            {
                "address": normalised,
                "organizations": [
                    {
                        "organization_id": each,
                        "suppressed": found[each],
                        "reasons": [reason._asdict() for reason in reasons[each]],
                    }
                    for each in shown
                ],
            }
        )
        return
    if not shown:
        say("no organization suppresses it, or ever did because of an event")
        return
    rows: list[tuple[str, ...]] = []
    for each in shown:
        is_in = "yes" if found[each] else "no"
        if not reasons[each]:
            rows.append((each, is_in, "", "", ""))
        rows += [(each, is_in, why.value, at, name) for why, at, name in reasons[each]]
    show_table(("ORGANIZATION", "SUPPRESSED", "WHY", "WHEN", "CAMPAIGN"), rows)


@app.command()
def sync(
    account: Annotated[str, typer.Argument(metavar="ACCOUNT", help="An account at Resend.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would be exchanged.")
    ] = False,
    yes: YesOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Exchange suppressed addresses with Resend's own list, both ways.

    Resend's list belongs to the account as a whole: what is on it is suppressed for each
    organization that the account serves, and what one of them suppresses gets no mail of the
    others either. Takes nothing away; safe to repeat. Needs a key with full access.
    """
    settings = read_settings(config)
    accounts = make_accounts(settings)
    if account not in settings.accounts:
        fail(f"there is no account {account}; the accounts are: {', '.join(settings.accounts)}")
    with redis_client(settings) as client:
        known = known_organizations(client, settings)
        served = sorted(each for each in known if accounts.of(each) == account)
        if not served:
            fail(f"account {account} serves no organization that is known")
        if not dry_run:
            confirm(
                f"{', '.join(served)}: what one of them, or Resend, suppresses is suppressed for "
                f"all of them, as they share account {account}",
                "nothing was exchanged",
                yes=yes,
            )
        try:
            resend = ResendClient(settings.api_url, settings.delivery.timeout_s)
            exchange = SuppressionSync(
                client, resend, accounts.key(account), served, _say_progress()
            )
        except (SettingsError, NoKeyError) as error:
            fail(error)
        stopped = None
        try:
            exchange.run(dry_run=dry_run)
        except CallError as error:
            stopped = error
    report = exchange.report
    if as_json:
        show_json({"organizations": served, "dry_run": dry_run, **asdict(report)})
    else:
        would = "would be " if dry_run else ""
        say(
            f"{report.at_resend:,} at Resend; {report.pulled:,} {would}added to "
            f"{', '.join(served)}, {report.pushed:,} {would}added at Resend"
        )
        if report.invalid:
            say(f"{report.invalid:,} left out: not valid addresses")
    if stopped is not None:
        fail(f"{stopped}; the command is safe to repeat")


def _say_progress() -> Progress:
    """Return what shows the progress, every few seconds, on standard error."""
    shown = time.monotonic()

    def show(what: str, number: int) -> None:
        nonlocal shown
        if time.monotonic() - shown >= _SAY_EVERY_S:
            shown = time.monotonic()
            warn(f"{what}: {number:,} addresses")

    return show


@app.command("list")
def list_(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """List the organizations that have campaigns, with their numbers of suppressed addresses."""
    settings = read_settings(config)
    with redis_client(settings) as client:
        counts = {
            organization: suppression.count(client, organization)
            for organization in sorted(known_organizations(client, settings))
        }
    if as_json:
        show_json(
            [{"organization_id": each, "suppressed": count} for each, count in counts.items()]
        )
    else:
        rows = [(organization, f"{count:,}") for organization, count in counts.items()]
        show_table(("ORGANIZATION", "SUPPRESSED"), rows)


@app.command()
def export(
    organization: OrganizationArgument,
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="Default: standard output.")
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write all suppressed addresses, one per line, in no particular order.

    Addresses added or removed during the export may be missing, and any address may appear twice.
    FILE can only be read by its owner, and is complete or absent.
    """
    settings = read_settings(config)
    with redis_client(settings) as client:
        require_organization(client, settings, organization)
        addresses = suppression.export(client, organization)
        lines = _json_lines(addresses) if as_json else map(printable, addresses)
        if file is None:
            show_lines(lines)
            return
        try:
            with private_files.replacing(file) as stream:
                stream.writelines(f"{line}\n" for line in lines)
        except OSError as error:
            fail(f"{file}: {error.strerror}")


def _given(addresses: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the given addresses, or those of standard input, where they are not in the history."""
    return from_file(sys.stdin.buffer) if addresses == ["-"] else from_arguments(addresses)


def _add(
    settings: Settings,
    organization: str,
    texts: Iterable[tuple[str, str]],
    *,
    is_new: bool,
    as_json: bool,
) -> None:
    parser = AddressParser()
    with redis_client(settings) as client:
        if not is_new:
            require_organization(client, settings, organization, "; if it is new, give --new")
        added = suppression.add(client, organization, parser.normalised(texts))
    if as_json:
        show_json({"added": added, "present": parser.good - added, **_bad(parser)})
    else:
        say(f"{organization}: {added:,} added, {parser.good - added:,} already suppressed")
    _end(parser)


def _bad(parser: AddressParser) -> dict[str, object]:
    return {"bad": parser.bad, "first_bad": [asdict(bad) for bad in parser.kept]}


def _end(parser: AddressParser) -> None:
    if parser.bad:
        raise typer.Exit(FAILED)


def _json_lines(addresses: Iterable[str]) -> Iterator[str]:
    """Yield the lines of a JSON array."""
    begin = "["
    for address in addresses:
        yield begin
        begin = f"  {orjson.dumps(address).decode()},"
    if begin == "[":
        yield "[]"
    else:
        yield begin.removesuffix(",")
        yield "]"
