"""`streamer campaign drop`: delete a finished campaign."""

from streamer.cli.common import (
    CampaignArgument,
    ConfigOption,
    JsonOption,
    YesOption,
    fail,
    kafka_admin,
    read_settings,
    redis_client,
    say,
    show_json,
)
from streamer.cli.names import require_campaign
from streamer.cli.output import confirm, require_terminal
from streamer.cli.progress import NOBODY_COUNTS, find
from streamer.ledger import campaigns
from streamer.model.plural import plural
from streamer.progress.caught_up import await_counts
from streamer.progress.report import Reporter
from streamer.progress.store import Store

_COUNTED_WITHIN_S = 15.0


def drop(
    campaign: CampaignArgument,
    yes: YesOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Permanently delete a finished campaign's definition, counts and claims.

    The workers must have passed all its recipients, and none may be parked. Its records in Kafka
    are kept. Recipients produced again afterwards are mailed again.
    """
    settings = read_settings(config)
    require_terminal("nothing was dropped", yes=yes)
    with redis_client(settings) as client:
        require_campaign(client, settings, campaign)
        store = Store(client, settings.kafka.group_id)
        reporter = Reporter(client, store)
        find(reporter, campaign)
        with kafka_admin(settings) as admin:
            if not await_counts(settings, admin, client, _COUNTED_WITHIN_S):
                fail(
                    "not dropped: the workers have not passed all that is in the input, or it is "
                    f"not counted yet; perhaps {NOBODY_COUNTS}"
                )
        report = find(reporter, campaign)
        if report.counts.parked:
            fail(
                f"campaign {campaign} is not finished: {plural(report.counts.parked, 'recipient')} "
                f"parked; wait for them, or cancel it first"
            )
        confirm(
            f"{campaign}: its definition, counts and claims "
            f"({plural(report.counts.received, 'recipient')} received) are deleted; "
            f"whoever is produced again is mailed again",
            "nothing was dropped",
            yes=yes,
        )
        campaigns.drop(client, *campaign)
        store.forget(campaign)
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
