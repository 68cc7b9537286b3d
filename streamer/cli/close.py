"""`streamer campaign close`: set how many recipients a campaign has."""

from typing import Annotated

import typer

from streamer.cli.common import (
    CampaignArgument,
    ConfigOption,
    JsonOption,
    read_settings,
    redis_client,
    say,
    show_json,
    warn,
)
from streamer.cli.names import require_campaign
from streamer.cli.progress import find
from streamer.progress.report import Reporter
from streamer.progress.store import Store


def close(
    campaign: CampaignArgument,
    expected: Annotated[
        int | None,
        typer.Option(min=0, help="Number of recipients. Default: the number counted so far."),
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Declare that all recipients of a campaign have been produced, and how many there are.

    The campaign is complete once that many were received and each has an outcome. Recipients that
    arrive later are still mailed, and the summary is published again.
    """
    settings = read_settings(config)
    with redis_client(settings) as client:
        require_campaign(client, settings, campaign)
        store = Store(client, settings.kafka.group_id)
        report = find(Reporter(client, store), campaign)
        number = report.counts.received if expected is None else expected
        store.expect(report.key, number)
    if number < report.counts.received:
        warn(f"{report.counts.received:,} recipients were already received")
    if as_json:
        show_json(
            {
                "organization_id": campaign.organization,
                "campaign_id": campaign.campaign_id,
                "expected": number,
            }
        )
    else:
        say(f"{campaign}: closed, {number:,} recipients expected")
