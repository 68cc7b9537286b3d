"""Refreshes the accounts' holds, and tests periodically whether one is over."""

import logging
import secrets
from datetime import UTC, datetime, timedelta
from functools import partial
from threading import Thread

from streamer.flow.failure_stats import OUTAGE
from streamer.ledger import campaigns, suppression
from streamer.ledger.claims import Claims, TakenOverError
from streamer.ledger.connection import UNREACHABLE, Client
from streamer.ledger.epoch import LedgerLostError
from streamer.ledger.holds import BatchRef, Hold
from streamer.model.campaign import CampaignState
from streamer.model.disposition import Conflicting, RateLimited, Retry, Suspended
from streamer.model.parking import Scope
from streamer.model.reasons import Reason
from streamer.model.result import BatchResult, ItemResult
from streamer.worker.account_states import AccountStateCache, as_hold
from streamer.worker.pinned import PinnedBatch, adopt
from streamer.worker.sending import Sender
from streamer.worker.slots import Slots
from streamer.worker.ticker import Ticker
from streamer.worker.waiter import StoppedError, Waiter

logger = logging.getLogger(__name__)

_OUTAGE_LASTS = timedelta(minutes=5)
_STOPPED = (CampaignState.PAUSED, CampaignState.CANCELLED)


class Prober:
    """Looks at the holds with each tick, and owns one thread per running test, so that a slow
    response for one account does not delay the others. Also publishes the counts of successful
    calls.

    Args:
        timeout_s: the longest that a call of any worker can take.
    """

    def __init__(
        self,
        client: Client,
        account_states: AccountStateCache,
        slots: Slots,
        sender: Sender,
        claims: Claims,
        waiter: Waiter,
        ticker: Ticker,
        timeout_s: float,
    ) -> None:
        self._client = client
        self._account_states = account_states
        self._slots = slots
        self._sender = sender
        self._claims = claims
        self._waiter = waiter
        self._ticker = ticker
        self._timeout_s = timeout_s
        self._testing: set[tuple[str, str | None]] = set()
        """The holds that this worker is testing now."""

    def start(self) -> None:
        """Begin to look; no test begins once the worker stops."""
        self._ticker.add(self._look)

    def _look(self) -> None:
        try:
            self._waiter.sleep(0)
            self._account_states.refresh()
            self._slots.tell()
            for account, domain, hold, batch in self._account_states.due():
                if (account, domain) in self._testing:
                    continue  # or tests waiting for slots would pile up
                self._testing.add((account, domain))
                test = partial(self._test_once, account, domain, hold, batch)
                Thread(target=test, name=f"hold-test-{account}", daemon=True).start()
        except UNREACHABLE as error:
            logger.debug("cannot read holds", extra={"error": str(error)})
        except StoppedError:
            pass

    def _test_once(
        self, account: str, domain: str | None, hold: Hold, batch: BatchRef | None
    ) -> None:
        try:
            self.test(account, domain, hold, batch)
        finally:
            self._testing.discard((account, domain))

    def test(self, account: str, domain: str | None, hold: Hold, batch: BatchRef | None) -> None:
        """Test a hold once.

        Args:
            batch: the batch to test with; None if there is none.
        """
        try:
            while batch is not None and not self._may_test(domain, batch):
                batch = self._account_states.next_batch(account, domain, batch)
            # Without a batch the hold is released: the next batch to be sent tests it.
            if batch is None or self._is_over(account, domain, hold, batch):
                logger.info("hold ended", extra={"account": account, "domain": domain})
                self._account_states.end_hold(account, domain, hold)
        except (StoppedError, TakenOverError, *UNREACHABLE):
            pass  # another worker will test it
        except LedgerLostError as error:
            logger.error("cannot test the hold", extra={"cause": str(error)})

    def _may_test(self, domain: str | None, ref: BatchRef) -> bool:
        """Whether the batch would be sent if there were no hold.

        A test must not send a mail that would otherwise not be sent, and a cancelled campaign
        must not prolong a hold.
        """
        batch = self._claims.load(*ref)
        if batch is None or batch.payload is None or batch.split_progress.rejected:
            return False
        if domain is None and self._account_states.holds_sender(batch.account, batch.sender):
            return False
        stopped = [
            campaigns.state(self._client, ref.organization, each) in _STOPPED
            for each in set(batch.campaigns)
        ]
        if not batch.deferred:
            # Resend may have accepted it already, so it is finished as pinned, with all members.
            return not stopped or not all(stopped)
        has_expired = batch.expires_at is not None and batch.expires_at <= datetime.now(UTC)
        return not (
            any(stopped)
            or has_expired
            or any(suppression.check(self._client, ref.organization, batch.addresses))
        )

    def _is_over(self, account: str, domain: str | None, hold: Hold, ref: BatchRef) -> bool:
        """Send the batch once; return whether the hold is over.

        The result is stored as the batch's result; its records find it when they return from the
        parked topic.
        """
        # Take the slot before adopting: while the account's circuit is open this takes so long
        # that another test would take the batch over.
        self._slots.take(account, domain or "", ignore_hold=True)
        owner = secrets.token_hex(8)
        batch = adopt(self._claims, ref, owner, self._timeout_s, self._waiter.clock)
        if batch is None or batch.split_progress.rejected:
            self._account_states.forget(account, domain, ref)
            return False
        answer = self._sender.test_hold(batch)
        if isinstance(answer, Suspended):
            self._claims.defer(*ref, owner)
            if answer.is_key_used:
                self._account_states.forget(account, domain, ref)
            test_with = None if answer.is_key_used else ref
            found = self._account_states.put(
                account,
                batch.sender,
                as_hold(answer, ref, self._waiter.clock.utc()),
                test_with,
                sender_only=answer.sender_only,
            )
            # A different scope is held now: the tested hold is over.
            return found != Scope.of_hold(account, domain)
        if isinstance(answer, RateLimited):
            self._claims.defer(*ref, owner)
            return False
        if isinstance(answer, Retry):
            if answer.may_be_content:
                self._claims.defer(*ref, owner)
            if hold.reason == OUTAGE:
                # The failing batches may themselves be the cause: every few minutes, release the
                # hold so that others are tried.
                return datetime.now(UTC) - hold.since > _OUTAGE_LASTS
            # The batch itself fails, which says nothing about the hold.
            self._account_states.forget(account, domain, ref)
            return False
        if answer is None:
            self._account_states.forget(account, domain, ref)
            answer = _all(batch, Reason.WINDOW_CLOSED, "the window closed during a hold")
        elif isinstance(answer, Conflicting):
            answer = _all(batch, Reason.IDEMPOTENCY_CONFLICT, answer.detail)
            self._account_states.forget(account, domain, ref)
        if isinstance(answer, BatchResult):
            self._claims.resolve(*ref, owner, answer)
            return answer.items[0].outcome != Reason.WINDOW_CLOSED
        # Rejected for its content: its records are decided anew when they return.
        self._claims.defer(*ref, owner)
        return True


def _all(batch: PinnedBatch, reason: Reason, detail: str) -> BatchResult:
    return BatchResult(1, [ItemResult.of(reason, detail)] * len(batch.payload))
