"""Who is mailed, and who is not: the order of decisions about a record before it is rendered."""

import logging
from datetime import datetime
from functools import partial

from streamer import metrics
from streamer.ledger.campaigns import CampaignProbe, UnreadableDefinitionError
from streamer.ledger.claims import Claim
from streamer.ledger.connection import Client
from streamer.model.address import sender_domain
from streamer.model.campaign import CampaignState, Message
from streamer.model.parking import ORGANIZATION, Scope
from streamer.model.reasons import DeadReason, Reason
from streamer.model.record import DeadLetter, Ending, Outcome, Parked, Record
from streamer.provider.accounts import Accounts
from streamer.worker.definitions import Definitions
from streamer.worker.holding import Holding
from streamer.worker.waiting import Waiting
from streamer.worker.work import duplicate

logger = logging.getLogger(__name__)


class NotMailed(Exception):  # noqa: N818 - no error, a decision
    """The record is not mailed; `ending` says why."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(ending)
        self.ending = ending


class Decisions:
    """Decides about records; may be asked from any thread."""

    def __init__(
        self, client: Client, accounts: Accounts, holding: Holding, waiting: Waiting
    ) -> None:
        self._definitions = Definitions(client)
        self._accounts = accounts
        self._holding = holding
        self._waiting = waiting
        self._without_account: set[str] = set()

    def message(
        self,
        record: Record,
        campaign: CampaignProbe,
        now: datetime,
        *,
        claim: Claim | None,
        is_suppressed: bool,
    ) -> Message:
        """What to send to the record's recipient.

        Args:
            campaign: what the ledger has of its campaign.
            claim: another record's, on its address.
            is_suppressed: whether its address is.

        Raises:
            NotMailed: nothing, for the first reason in the order of decisions.
            StoppedError: the worker stops.
        """
        event = record.known_event
        try:
            message = event.message or self._waiting.for_redis(
                partial(
                    self._definitions.message,
                    event.organization_id,
                    event.campaign_id,
                    campaign.version,
                )
            )
        except UnreadableDefinitionError as error:
            raise NotMailed(DeadLetter(DeadReason.UNKNOWN_CAMPAIGN, str(error))) from None
        if message is None:
            detail = (
                f"campaign {event.organization_id}/{event.campaign_id} has no definition, "
                f"and the event no message"
            )
            raise NotMailed(DeadLetter(DeadReason.UNKNOWN_CAMPAIGN, detail))
        if record.address is None:
            raise NotMailed(Outcome.of(Reason.INVALID_ADDRESS, record.address_fault))
        if claim is not None:
            raise NotMailed(duplicate(claim))
        if campaign.state is CampaignState.CANCELLED:
            raise NotMailed(Outcome.of(Reason.CANCELLED))
        for expires_at in (event.expires_at, message.expires_at):
            if expires_at is not None and expires_at <= now:
                raise NotMailed(Outcome.of(Reason.EXPIRED, f"at {expires_at.isoformat()}"))
        scope = self._waits_for(record, campaign.state, message)
        if scope is not None:
            raise NotMailed(Parked(scope))
        if is_suppressed:
            raise NotMailed(Outcome.of(Reason.SUPPRESSED))
        return message

    def _waits_for(
        self, record: Record, state: CampaignState | None, message: Message
    ) -> Scope | None:
        event = record.known_event
        if state is CampaignState.PAUSED:
            return Scope.of_campaign(event.organization_id, event.campaign_id)
        account = self._accounts.of(event.organization_id)
        if account is None:
            if event.organization_id not in self._without_account:
                self._without_account.add(event.organization_id)
                logger.error(
                    "no account serves the organization, its records are parked: name it in the "
                    "`organizations` of one, and restart",
                    extra={"organization": event.organization_id},
                )
                metrics.ACCOUNT_HELD.labels("none", "no_account").set(1)
            return Scope(ORGANIZATION, event.organization_id)
        return self._holding.scope_of(account, sender_domain(message.from_))
