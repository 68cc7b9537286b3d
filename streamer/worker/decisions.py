"""Decides which records get a mail: the checks, in order, before a record is rendered."""

import logging
from datetime import datetime
from functools import partial

from streamer import metrics
from streamer.ledger.campaigns import CampaignProbe, UnreadableDefinitionError
from streamer.ledger.probe import Probe
from streamer.model.address import sender_domain
from streamer.model.campaign import CampaignState, Message
from streamer.model.event import RecipientEvent
from streamer.model.parking import ORGANIZATION, Scope
from streamer.model.reasons import DeadReason, Reason
from streamer.model.record import DeadLetter, Outcome, Parked, Record, Resolution
from streamer.provider.accounts import Accounts
from streamer.worker.account_states import AccountStateCache
from streamer.worker.assembly import duplicate
from streamer.worker.definitions import Definitions
from streamer.worker.waiter import Waiter

logger = logging.getLogger(__name__)

_NOTHING = (None, None)


def first_expiry(event: RecipientEvent, message: Message) -> datetime | None:
    """When the mail expires: the earlier of the event's and the campaign's `expires_at`, or
    None."""
    if event.expires_at is None or message.expires_at is None:
        return event.expires_at or message.expires_at
    return min(event.expires_at, message.expires_at)


class Decisions:
    """Decides about records. Thread-safe."""

    def __init__(
        self,
        definitions: Definitions,
        accounts: Accounts,
        account_states: AccountStateCache,
        waiter: Waiter,
    ) -> None:
        self._definitions = definitions
        self._accounts = accounts
        self._account_states = account_states
        self._waiter = waiter
        self._without_account: set[str] = set()

    def for_batch(self, organization: str, found: Probe) -> "BatchDecisions":
        """The decisions about the organization's probed records, as of now."""
        return BatchDecisions(self, organization, found, self._waiter.clock.utc())

    def definition(
        self, organization: str, campaign_id: str, campaign: CampaignProbe
    ) -> Message | DeadLetter:
        """The message of a campaign, or the dead letter of its records if there is none.

        Raises:
            StoppedError: the worker stops.
        """
        ask = partial(self._definitions.message, organization, campaign_id, campaign.version)
        try:
            message = self._waiter.retry_redis(ask)
        except UnreadableDefinitionError as error:
            return DeadLetter(DeadReason.UNKNOWN_CAMPAIGN, str(error))
        if message is None:
            detail = (
                f"campaign {organization}/{campaign_id} is not defined and the event has no message"
            )
            return DeadLetter(DeadReason.UNKNOWN_CAMPAIGN, detail)
        return message

    def hold(self, organization: str, sender: str) -> Scope | None:
        """The scope that the organization's mails from this domain wait for, or None."""
        account = self._accounts.of(organization)
        if account is not None:
            return self._account_states.scope_of(account, sender)
        if organization not in self._without_account:
            self._without_account.add(organization)
            logger.error(
                "no account serves the organization, parking its records: add it to "
                "`accounts.NAME.organizations` and restart the workers",
                extra={"organization": organization},
            )
            metrics.ACCOUNT_HELD.labels("none", "no_account").set(1)
        return Scope(ORGANIZATION, organization)


class BatchDecisions:
    """Decisions about one organization's records that were probed together.

    Each campaign's definition and each sender's hold is looked up only once.
    """

    def __init__(
        self, decisions: Decisions, organization: str, found: Probe, now: datetime
    ) -> None:
        self._decisions = decisions
        self._organization = organization
        self._found = found
        self._now = now
        self._definitions: dict[str, Message | DeadLetter] = {}
        self._holds: dict[str, Scope | None] = {}
        self._unusual = found.suppressed | found.claims.keys()
        self._usual: dict[str, tuple[Message | None, Message]] = {}
        """By campaign, the message of an event, if any, and the one to send to whoever gets it
        unless there is something against it in the record itself."""

    def message(self, position: int, record: Record, event: RecipientEvent) -> Message | Resolution:
        """The message to send to the record's recipient, or the record's resolution if none is
        sent, for the first check that fails.

        Args:
            position: index of the record among those that were probed.
            record: one that does not have a claim of its own; that is adopted instead.
            event: its event.

        Raises:
            StoppedError: the worker stops.
        """
        given, usual = self._usual.get(event.campaign_id, _NOTHING)
        if (
            usual is not None
            and given is event.message
            and event.expires_at is None
            and record.address is not None
            and position not in self._unusual
        ):
            return usual
        message = event.message or self._definition(event.campaign_id)
        if isinstance(message, DeadLetter):
            return message
        if record.address is None:
            return Outcome.of(Reason.INVALID_ADDRESS, record.address_error)
        claim = self._found.claims.get(position)
        if claim is not None:
            return duplicate(claim)
        state = self._found.campaigns[event.campaign_id].state
        if state is CampaignState.CANCELLED:
            return Outcome.of(Reason.CANCELLED)
        expires_at = first_expiry(event, message)
        if expires_at is not None and expires_at <= self._now:
            return Outcome.of(Reason.EXPIRED, f"at {expires_at.isoformat()}")
        if state is CampaignState.PAUSED:
            return Parked(Scope.of_campaign(self._organization, event.campaign_id))
        hold = self._hold(message.from_)
        if hold is not None:
            return Parked(hold)
        if position in self._found.suppressed:
            return Outcome.of(Reason.SUPPRESSED)
        self._usual[event.campaign_id] = event.message, message
        return message

    def _definition(self, campaign_id: str) -> Message | DeadLetter:
        if campaign_id not in self._definitions:
            self._definitions[campaign_id] = self._decisions.definition(
                self._organization, campaign_id, self._found.campaigns[campaign_id]
            )
        return self._definitions[campaign_id]

    def _hold(self, from_: str) -> Scope | None:
        if from_ not in self._holds:
            self._holds[from_] = self._decisions.hold(self._organization, sender_domain(from_))
        return self._holds[from_]
