"""Checks of the content of campaigns that are still to be sent."""

from collections.abc import Iterator
from datetime import UTC, datetime

from streamer.doctor.check_result import CheckResult, failed, ok
from streamer.ledger import campaigns
from streamer.ledger.campaigns import UnreadableDefinitionError
from streamer.ledger.connection import REDIS_ERRORS, Client, connect
from streamer.mail.content import content_faults
from streamer.mail.templates import Templates
from streamer.model.campaign import CampaignName, CampaignState
from streamer.settings import Settings

_OPEN = (CampaignState.ACTIVE, CampaignState.PAUSED)


def check_campaigns(settings: Settings) -> Iterator[CheckResult]:
    """Check each campaign that is neither completed nor cancelled, as `campaign create` does.

    Yields nothing if Redis cannot be used; another check reports that.
    """
    try:
        client = connect(settings.redis)
    except (ValueError, *REDIS_ERRORS):
        return
    templates = Templates(settings.mail.max_bytes)
    count = 0
    is_good = True
    try:
        for organization in campaigns.organizations(client):
            for campaign_id in campaigns.ids(client, organization):
                name = CampaignName(organization, campaign_id)
                text = _fault(client, name, templates)
                count += 1
                if text is not None:
                    is_good = False
                    yield failed(f"campaign {name}", text, f"streamer campaign edit {name}")
    except REDIS_ERRORS:
        return
    finally:
        client.close()
    if is_good:
        yield ok("campaigns", f"{count:,} defined; what is still to be sent can be sent")


def _fault(client: Client, name: CampaignName, templates: Templates) -> str | None:
    try:
        found = campaigns.load(client, *name)
    except UnreadableDefinitionError as error:
        return str(error)
    if found is None or found.state not in _OPEN:
        return None
    return "; ".join(content_faults(found.definition, templates, datetime.now(UTC))) or None
