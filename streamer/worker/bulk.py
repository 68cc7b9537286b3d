"""Pauses a campaign when most of its mails fail, to spare the remaining recipients."""

import logging
import secrets
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from functools import partial

from streamer import metrics
from streamer.ledger import campaigns
from streamer.ledger.campaigns import CampaignProbe
from streamer.ledger.connection import Client
from streamer.ledger.last_mails import BulkFailure, LastMails
from streamer.model.reasons import Status
from streamer.model.record import Outcome, Record
from streamer.settings import BreakerSettings
from streamer.worker.waiter import Waiter

logger = logging.getLogger(__name__)

_MAX_DETAIL = 200


class BulkStop:
    """Counts outcomes per campaign, and pauses campaigns that mostly fail. Thread-safe."""

    def __init__(self, settings: BreakerSettings, client: Client, waiter: Waiter) -> None:
        self._settings = settings
        self._last_mails = LastMails(
            client, settings.campaign_mails, settings.campaign_failed_share
        )
        self._client = client
        self._waiter = waiter

    def record_resolved(
        self, records: Sequence[Record], probed: Mapping[str, CampaignProbe]
    ) -> None:
        """Count resolved records of one organization.

        Args:
            probed: the state of their campaigns when the records were decided.

        Raises:
            StoppedError: the worker stops.
        """
        if not any(map(_has_failed, records)) and not any(
            campaign.some_failed for campaign in probed.values()
        ):
            return  # successes count only beside failures
        by_campaign: defaultdict[tuple[str, str], list[Outcome]] = defaultdict(list)
        for record in records:
            resolution = record.resolution
            if isinstance(resolution, Outcome) and resolution.status is not Status.SKIPPED:
                by_campaign[record.organization_id, record.campaign_id].append(resolution)
        for campaign, outcomes in by_campaign.items():
            failed = Counter[str](
                o.reason for o in outcomes if o.status is Status.FAILED and o.reason
            )
            before = probed.get(campaign[1], _UNKNOWN)
            if not failed and not before.some_failed:
                continue
            call = secrets.token_hex(6)
            count = partial(
                self._last_mails.ended, call, campaign, before.resumed, len(outcomes), failed
            )
            found = self._waiter.retry_redis(count)
            if found is not None:
                detail = [o.detail for o in outcomes if o.reason == found.reason and o.detail]
                self._pause(campaign, before.resumed, found, detail[-1] if detail else "")

    def _pause(
        self, campaign: tuple[str, str], resumed: int, found: BulkFailure, detail: str
    ) -> None:
        mails = self._settings.campaign_mails
        why = f"{found.failed:,} of its last {mails:,} mails failed as {found.reason}"
        # The detail goes to the ledger only: it may contain an address, which must not be logged.
        told = f"{why}; last error: {detail[:_MAX_DETAIL]}" if detail else why
        pause = partial(campaigns.pause, self._client, *campaign, why=told, resumed=resumed)
        self._waiter.retry_redis(pause)
        ask = partial(campaigns.paused_for, self._client, *campaign)
        if self._waiter.retry_redis(ask) != told:
            return  # already paused or cancelled, or resumed since
        metrics.CAMPAIGNS_STOPPED.labels(found.reason).inc()
        name = "/".join(campaign)
        logger.error(
            "paused the campaign because most of its mails fail; its other recipients are parked",
            extra={
                "campaign": name,
                "cause": why,
                "next": f"see streamer campaign show {name}, then campaign resume or cancel",
            },
        )


_UNKNOWN = CampaignProbe(None, None)


def _has_failed(record: Record) -> bool:
    resolution = record.resolution
    return isinstance(resolution, Outcome) and resolution.status is Status.FAILED
