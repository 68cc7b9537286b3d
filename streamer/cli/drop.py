"""`streamer campaign drop`: forgetting a campaign that is over."""

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
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Forget a campaign that is over: its definition, its counts, and who had it. For good.

    Nothing of it may be under way. Its records in Kafka stay. Recipients that are written again
    afterwards are mailed again.
    """
    settings = read_settings(config)
    if not yes and not sys.stdin.isatty():
        fail("nothing is dropped without --yes", WRONG_USE)
    with redis_client(settings) as client:
        store = Store(client, settings.kafka.group_id)
        reporter = Reporter(client, store)
        find(reporter, campaign)
        with kafka_admin(settings) as admin:
            if not await_counts(settings.topics, admin, store, _COUNTED_WITHIN_S):
                fail(
                    f"not dropped: what was written is not all counted yet; perhaps {NOBODY_COUNTS}"
                )
        report = find(reporter, campaign)
        if report.counts.in_flight or report.counts.parked:
            fail(
                f"campaign {campaign} is not over: {report.counts.in_flight:,} recipients are in "
                f"flight, {report.counts.parked:,} are parked; wait for them, or cancel it first"
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
        typer.echo(f"{campaign}: dropped")


def _confirm(report: Report) -> None:
    question = (
        f"Forget {'/'.join(report.key)}, which {report.counts.received:,} records named, for good?"
    )
    if not typer.confirm(question, err=True):
        fail("nothing was dropped")
