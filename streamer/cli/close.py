"""`streamer campaign close`: declare that a campaign has no more recipients."""

from typing import Annotated

import typer

from streamer.cli.common import (
    CampaignArgument,
    ConfigOption,
    JsonOption,
    kafka_admin,
    read_settings,
    redis_client,
    say,
    show_json,
    warn,
)
from streamer.cli.names import require_campaign
from streamer.cli.progress import find
from streamer.kafka.offsets import end_offsets
from streamer.model.plural import plural
from streamer.progress.report import Reporter
from streamer.progress.store import Store


def close(
    campaign: CampaignArgument,
    expected: Annotated[
        int | None,
        typer.Option(min=0, help="Number of recipients, if some are still to be produced."),
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Declare that all recipients of a campaign have been produced.

    The campaign is complete once the workers have passed all that is in the input now, and none of
    its recipients is parked. With --expected it is closed later, once that many were received.
    Recipients that arrive afterwards are still mailed, and the summary is published again.
    """
    settings = read_settings(config)
    with redis_client(settings) as client, kafka_admin(settings) as admin:
        require_campaign(client, settings, campaign)
        store = Store(client, settings.kafka.group_id)
        report = find(Reporter(client, store), campaign)
        if expected is None:
            store.close(campaign, end_offsets(admin, settings.topics.recipients))
        else:
            store.expect(campaign, expected)
            if expected < report.counts.received:
                warn(f"already received: {plural(report.counts.received, 'recipient')}")
    if as_json:
        show_json(
            {
                "organization_id": campaign.organization,
                "campaign_id": campaign.campaign_id,
                "closed": expected is None,
                "expected": report.expected if expected is None else expected,
            }
        )
    else:
        text = "closed" if expected is None else f"{plural(expected, 'recipient')} expected"
        say(f"{campaign}: {text}")
