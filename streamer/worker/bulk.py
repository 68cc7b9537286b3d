"""A campaign most of whose mails fail is paused, before the rest of its recipients is spent."""

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import partial

from streamer import metrics
from streamer.flow.bulk import Bulk, BulkFailures
from streamer.ledger import campaigns
from streamer.ledger.connection import Client
from streamer.model.campaign import CampaignState
from streamer.model.reasons import Status
from streamer.model.record import Outcome, Record
from streamer.settings import Breaker
from streamer.worker.waiting import Waiting

logger = logging.getLogger(__name__)

_MOST_WORDS = 200


class BulkStop:
    """Is told how records ended, and pauses campaigns; may be told from any thread."""

    def __init__(self, settings: Breaker, client: Client, waiting: Waiting) -> None:
        self._settings = settings
        self._failures = BulkFailures(settings.campaign_mails, settings.campaign_failed_share)
        self._client = client
        self._waiting = waiting

    def ended(self, records: Iterable[Record], resumed: Mapping[str, int]) -> None:
        """Take records of one organization that have ended.

        Args:
            resumed: of each campaign how often it was resumed until they were decided.

        Raises:
            StoppedError: the worker stops.
        """
        by_campaign: defaultdict[tuple[str, str], list[Outcome]] = defaultdict(list)
        for record in records:
            ending = record.ending
            if isinstance(ending, Outcome) and ending.status is not Status.SKIPPED:
                by_campaign[record.organization_id, record.campaign_id].append(ending)
        for campaign, outcomes in by_campaign.items():
            times = resumed.get(campaign[1], 0)
            found = self._failures.ended(campaign, times, map(_reason, outcomes))
            if found is not None:
                words = next(o.detail for o in reversed(outcomes) if o.reason == found.reason)
                self._pause(campaign, times, found, words or "")

    def _pause(self, campaign: tuple[str, str], resumed: int, found: Bulk, words: str) -> None:
        mails = self._settings.campaign_mails
        why = f"{found.failed:,} of its last {mails:,} mails at a worker failed as {found.reason}"
        # With the words in the ledger, to be shown; in the log they might be an address.
        told = f"{why}, the last for: {words[:_MOST_WORDS]}"
        pause = partial(campaigns.pause, self._client, *campaign, why=told, resumed=resumed)
        if self._waiting.for_redis(pause).state is not CampaignState.PAUSED:
            return  # it was cancelled, or resumed since
        metrics.CAMPAIGNS_STOPPED.labels(found.reason).inc()
        name = "/".join(campaign)
        logger.error(
            "the campaign is paused, as most of its mails fail; the rest of its recipients waits",
            extra={
                "campaign": name,
                "cause": why,
                "next": f"see why: streamer campaign show {name}; then campaign resume or cancel",
            },
        )


def _reason(outcome: Outcome) -> str | None:
    return outcome.reason if outcome.status is Status.FAILED else None
