"""`streamer campaign drop`: forgetting a campaign that is over."""

import sys
import time
from typing import Annotated

import typer
from confluent_kafka import KafkaException

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
from streamer.kafka.metadata import partitions_of
from streamer.ledger import campaigns
from streamer.progress.arrivals import arrival_places
from streamer.progress.fold import Cursor
from streamer.progress.judge import Ends
from streamer.progress.report import Report, Reporter
from streamer.progress.store import Store
from streamer.settings import Settings

_COUNTED_WITHIN_S = 15.0
_LOOK_EVERY_S = 0.2


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
        _await_counts(settings, store)
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


def _await_counts(settings: Settings, store: Store) -> None:
    """Wait until all that had been written is counted; the command ends with 1 if that takes too
    long."""
    topics = settings.topics
    cursors = {
        Cursor.RECIPIENTS: topics.recipients,
        Cursor.PARKED: topics.parked,
        Cursor.OUTCOMES: topics.outcomes,
        Cursor.DEAD_LETTERS: topics.dead_letters,
    }
    with kafka_admin(settings) as admin:
        places = arrival_places(cursors, partitions_of(admin, cursors.values()))
        ends = Ends(admin, places)
        deadline = time.monotonic() + _COUNTED_WITHIN_S
        while True:
            counted = store.open().offsets
            try:
                if ends.reached({place: counted.get(place, 0) for place in places}):
                    return
            except KafkaException as error:  # a topic that was just created has no leader yet
                if not error.args[0].retriable() or time.monotonic() > deadline:
                    raise
                ends = Ends(admin, places)
            if time.monotonic() > deadline:
                fail(
                    f"not dropped: what was written is not all counted yet; perhaps {NOBODY_COUNTS}"
                )
            time.sleep(_LOOK_EVERY_S)


def _confirm(report: Report) -> None:
    question = (
        f"Forget {'/'.join(report.key)}, which {report.counts.received:,} records named, for good?"
    )
    if not typer.confirm(question, err=True):
        fail("nothing was dropped")
