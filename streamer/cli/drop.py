"""`streamer campaign drop`: delete a finished campaign."""

import sys
from typing import Annotated

import typer

from streamer.cli.common import (
    WRONG_USE,
    CampaignArgument,
    ConfigOption,
    JsonOption,
    fail,
    kafka_admin,
    read_settings,
    redis_client,
    say,
    show_json,
)
from streamer.cli.progress import NOBODY_COUNTS, find
from streamer.ledger import campaigns
from streamer.progress.caught_up import await_counts
from streamer.progress.report import Report, Reporter
from streamer.progress.store import Store

_COUNTED_WITHIN_S = 15.0


def drop(
    campaign: CampaignArgument,
    yes: Annotated[bool, typer.Option("--yes", help="Skip the confirmation.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Permanently delete a finished campaign's definition, counts and claims.

    None of its recipients may be in flight or parked. Its records in Kafka are kept. Recipients
    produced again afterwards are mailed again.
    """
    settings = read_settings(config)
    if not yes and not sys.stdin.isatty():
        fail("nothing was dropped: --yes is required without a terminal", WRONG_USE)
    with redis_client(settings) as client:
        store = Store(client, settings.kafka.group_id)
        reporter = Reporter(client, store)
        find(reporter, campaign)
        with kafka_admin(settings) as admin:
            if not await_counts(settings.topics, admin, store, _COUNTED_WITHIN_S):
                fail(f"not dropped: some records are not counted yet; perhaps {NOBODY_COUNTS}")
        report = find(reporter, campaign)
        if report.counts.in_flight or report.counts.parked:
            fail(
                f"campaign {campaign} is not finished: {report.counts.in_flight:,} recipients are "
                f"in flight, {report.counts.parked:,} are parked; wait for them, or cancel it first"
            )
        if not yes:
            _confirm(report)
        campaigns.drop(client, *campaign)
        store.forget(report.key)
    if as_json:
        show_json(
            {
                "organization_id": campaign.organization,
                "campaign_id": campaign.campaign_id,
                "dropped": True,
            }
        )
    else:
        say(f"{campaign}: dropped")


def _confirm(report: Report) -> None:
    question = (
        f"Permanently delete {'/'.join(report.key)} ({report.counts.received:,} records received)?"
    )
    if not typer.confirm(question, err=True):
        fail("nothing was dropped")
