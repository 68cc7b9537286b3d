"""`streamer events`: what became of the mails, as Resend recorded it."""

import time
from dataclasses import asdict
from datetime import datetime
from typing import Annotated

import typer
from confluent_kafka import KafkaException

from streamer.cli.common import (
    ConfigOption,
    JsonOption,
    YesOption,
    fail,
    read_settings,
    say,
    show_json,
    warn,
)
from streamer.cli.output import confirm
from streamer.cli.times import parse_time
from streamer.model.instants import as_text
from streamer.provider.accounts import NoKeyError
from streamer.provider.calls import CallError
from streamer.provider.client import ResendClient
from streamer.recovery.backfill import Backfill, BackfillError
from streamer.settings import SettingsError
from streamer.worker.process import make_accounts

app = typer.Typer(no_args_is_help=True, help="What became of the mails after they were sent.")

_SAY_EVERY_S = 5.0


@app.command()
def backfill(
    account: Annotated[str, typer.Argument(metavar="ACCOUNT", help="An account at Resend.")],
    since: Annotated[
        datetime,
        typer.Option(
            metavar="TIME", parser=parse_time, help="From when on, as 2026-11-24T03:40:00Z."
        ),
    ],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only count what would be written.")
    ] = False,
    yes: YesOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the events that the gateway missed to the topic of events.

    Asks Resend for the events of the webhook to the gateway since a time, and takes those that it
    could not deliver. Safe to repeat: each event counts once. Needs a key with full access. Resend
    keeps events for 30 days.
    """
    settings = read_settings(config)
    accounts = make_accounts(settings)
    if account not in settings.accounts:
        fail(f"there is no account {account}; the accounts are: {', '.join(settings.accounts)}")
    if not dry_run:
        confirm(
            f"the events of account {account} since {as_text(since)} that the gateway has not "
            f"taken are written, and whom they concern is suppressed",
            "nothing was written",
            yes=yes,
        )
    shown = time.monotonic()

    def show(seen: int, written: int) -> None:
        nonlocal shown
        if time.monotonic() - shown >= _SAY_EVERY_S:
            shown = time.monotonic()
            warn(f"{seen:,} events seen, {written:,} written")

    try:
        resend = ResendClient(settings.api_url, settings.delivery.timeout_s)
        filling = Backfill(settings, resend, account, accounts.key(account), show)
    except (SettingsError, NoKeyError) as error:
        fail(error)
    except KafkaException as error:
        fail(error.args[0].str())
    stopped = None
    try:
        filling.run(since, dry_run=dry_run)
    except (CallError, BackfillError) as error:
        stopped = error
    report = filling.report
    if as_json:
        show_json({"dry_run": dry_run, **asdict(report)})
    else:
        written = "would be written" if dry_run else "written"
        say(
            f"{report.seen:,} events since then: {report.acknowledged:,} taken by the gateway, "
            f"{report.written:,} {written}"
        )
        if report.unreadable:
            say(f"{report.unreadable:,} left out: not events")
    if stopped is not None:
        fail(stopped)
