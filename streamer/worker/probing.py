"""The thread that keeps an eye on holds, and tests from time to time whether one is over."""

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
from streamer.worker.waiter import StoppedError, Waiter

logger = logging.getLogger(__name__)

_EVERY_S = 0.5
_OUTAGE_LASTS = timedelta(minutes=5)
_STOPPED = (CampaignState.PAUSED, CampaignState.CANCELLED)


class Prober:
    """Owns the thread `holds`, and one more for each hold while it is tested: no account waits
    for the answer that another waits for. The thread also tells of the calls that got through.

    Args:
        timeout_s: for how long a call can be under way, at any worker.
    """

    def __init__(
        self,
        client: Client,
        account_states: AccountStateCache,
        slots: Slots,
        sender: Sender,
        claims: Claims,
        waiter: Waiter,
        timeout_s: float,
    ) -> None:
        self._client = client
        self._account_states = account_states
        self._slots = slots
        self._sender = sender
        self._claims = claims
        self._waiter = waiter
        self._timeout_s = timeout_s
        self._testing: set[tuple[str, str | None]] = set()
        """The holds of which a test of this worker's is not over yet."""

    def start(self) -> None:
        """Begin; it ends when the worker stops."""
        Thread(target=self._run, name="holds", daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                self._account_states.refresh()
                self._slots.tell()
                for account, domain, hold, batch in self._account_states.due():
                    if (account, domain) in self._testing:
                        continue  # tests that wait for slots would only pile up
                    self._testing.add((account, domain))
                    test = partial(self._test_once, account, domain, hold, batch)
                    Thread(target=test, name=f"hold-test-{account}", daemon=True).start()
                self._waiter.sleep(_EVERY_S)
            except UNREACHABLE as error:
                logger.debug("holds cannot be read", extra={"error": str(error)})
                try:
                    self._waiter.sleep(_EVERY_S)
                except StoppedError:
                    return
            except StoppedError:
                return

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
            batch: whose turn it is; None if there is none.
        """
        try:
            while batch is not None and not self._may_test(domain, batch):
                batch = self._account_states.next_batch(account, domain, batch)
            # Without a batch the next one that comes finds out.
            if batch is None or self._is_over(account, domain, hold, batch):
                logger.info("the hold is over", extra={"account": account, "domain": domain})
                self._account_states.end_hold(account, domain, hold)
        except (StoppedError, TakenOverError, *UNREACHABLE):
            pass  # another worker's turn comes
        except LedgerLostError as error:
            logger.error("the hold was not tested", extra={"cause": str(error)})

    def _may_test(self, domain: str | None, ref: BatchRef) -> bool:
        """Whether a batch would be sent if there were no hold: nobody is mailed for a test alone
        who would not be, and what is cancelled must not hold up anybody."""
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
            # What may have been taken already is finished as it was pinned, for all its members.
            return not stopped or not all(stopped)
        has_expired = batch.expires_at is not None and batch.expires_at <= datetime.now(UTC)
        return not (
            any(stopped)
            or has_expired
            or any(suppression.check(self._client, ref.organization, batch.addresses))
        )

    def _is_over(self, account: str, domain: str | None, hold: Hold, ref: BatchRef) -> bool:
        """Send the batch once; what comes of it is the batch's result, as if its records were
        here: they find it when they come back."""
        # The slot comes first: while the account's circuit is open it is long in coming, and the
        # batch would be another test's by then.
        self._slots.take(account, domain or "", ignore_hold=True)
        owner = secrets.token_hex(8)
        batch = adopt(self._claims, ref, owner, self._timeout_s)
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
                as_hold(answer, ref),
                test_with,
                sender_only=answer.sender_only,
            )
            # It is held for something else: what was tested here is over.
            return found != Scope.of_hold(account, domain)
        if isinstance(answer, RateLimited):
            self._claims.defer(*ref, owner)
            return False
        if isinstance(answer, Retry):
            if answer.may_be_content:
                self._claims.defer(*ref, owner)
            if hold.reason == OUTAGE:
                # The batches that test an outage may be what fails: now and then others try.
                return datetime.now(UTC) - hold.since > _OUTAGE_LASTS
            # It fails for itself, which says nothing of the hold.
            self._account_states.forget(account, domain, ref)
            return False
        if answer is None:
            self._account_states.forget(account, domain, ref)
            answer = _all(batch, Reason.WINDOW_CLOSED, "it closed during a hold")
        elif isinstance(answer, Conflicting):
            answer = _all(batch, Reason.IDEMPOTENCY_CONFLICT, answer.detail)
            self._account_states.forget(account, domain, ref)
        if isinstance(answer, BatchResult):
            self._claims.resolve(*ref, owner, answer)
            return answer.items[0].outcome != Reason.WINDOW_CLOSED
        # Refused for its content: its members are decided about anew when they come back.
        self._claims.defer(*ref, owner)
        return True


def _all(batch: PinnedBatch, reason: Reason, detail: str) -> BatchResult:
    return BatchResult(1, [ItemResult.of(reason, detail)] * len(batch.payload))
