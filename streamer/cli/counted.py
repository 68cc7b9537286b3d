"""What was counted of campaigns, for commands that show or change them."""

from collections.abc import Sequence

from streamer.ledger.connection import Client
from streamer.model.campaign import CampaignName
from streamer.model.reasons import Status
from streamer.progress.report import Report, Reporter
from streamer.progress.store import Store
from streamer.settings import Settings


def reports(
    client: Client, settings: Settings, names: Sequence[CampaignName]
) -> dict[CampaignName, Report]:
    """Return the progress of campaigns, without those of which nothing is known."""
    reporter = Reporter(client, Store(client, settings.kafka.group_id))
    found = reporter.reports(names)
    return {name: each for name, each in zip(names, found, strict=True) if each is not None}


def sent_and_left(report: Report | None) -> tuple[int, int]:
    """Return how many recipients were sent, and how many that are known have not ended."""
    if report is None:
        return 0, 0
    known = max(report.expected or 0, report.counts.received)
    return report.counts.ended(Status.SENT), max(0, known - report.ended)
