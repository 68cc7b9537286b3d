"""The thread that keeps an eye on holds, and tests from time to time whether one is over."""

import logging
import secrets
from datetime import UTC, datetime, timedelta
from functools import partial
from threading import Thread

from streamer.ledger.claims import Claims, TakenOverError
from streamer.ledger.connection import UNREACHABLE
from streamer.ledger.epoch import LedgerLostError
from streamer.ledger.holds import OUTAGE, BatchRef, Hold
from streamer.model.reasons import Reason
from streamer.model.result import BatchResult, ItemResult
from streamer.provider.answers import Again, Conflicting, OnHold, Throttled
from streamer.worker.holding import Holding
from streamer.worker.sending import PinnedBatch, Sender, adopted
from streamer.worker.waiting import StoppedError, Waiting, deadline_clock

logger = logging.getLogger(__name__)

_EVERY_S = 0.5
_OUTAGE_LASTS = timedelta(minutes=5)


class Prober:
    """Owns the thread `holds`, and one more for each hold while it is tested: no account waits
    for the answer that another waits for."""

    def __init__(self, holding: Holding, sender: Sender, claims: Claims, waiting: Waiting) -> None:
        self._holding = holding
        self._sender = sender
        self._claims = claims
        self._waiting = waiting

    def start(self) -> None:
        """Begin; it ends when the worker stops."""
        Thread(target=self._run, name="holds", daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                self._holding.refresh()
                for account, domain, hold, batch in self._holding.due():
                    test = partial(self._test, account, domain, hold, batch)
                    Thread(target=test, name=f"hold-test-{account}", daemon=True).start()
                self._waiting.sleep(_EVERY_S)
            except UNREACHABLE as error:
                logger.debug("holds cannot be read", extra={"error": str(error)})
                try:
                    self._waiting.sleep(_EVERY_S)
                except StoppedError:
                    return
            except StoppedError:
                return

    def _test(self, account: str, domain: str | None, hold: Hold, batch: BatchRef | None) -> None:
        try:
            if batch is None:
                self._holding.over(account, domain)  # the next batch finds out
            elif self._is_over(account, domain, hold, batch):
                logger.info("a test call got through", extra={"account": account})
                self._holding.over(account, domain)
        except (StoppedError, TakenOverError, *UNREACHABLE):
            pass  # another worker's turn comes
        except LedgerLostError as error:
            logger.error("the hold was not tested", extra={"cause": str(error)})

    def _is_over(self, account: str, domain: str | None, hold: Hold, ref: BatchRef) -> bool:
        """Send the batch once; what comes of it is the batch's result, as if its records were
        here: they find it when they come back."""
        owner = secrets.token_hex(8)
        asked_at = deadline_clock()
        stored = self._claims.adopt(*ref, owner)
        if stored is None or stored.payload is None or stored.learned.refused:
            self._holding.forget(account, domain, ref)
            return False
        batch = adopted(stored, ref, stored.payload, owner, asked_at)
        answer = self._sender.test_hold(batch)
        if isinstance(answer, OnHold | Throttled):
            self._claims.lay_down(*ref, owner)
            return False
        if isinstance(answer, Again):
            # The batches that test an outage may be what fails: now and then others try.
            age = datetime.now(UTC) - hold.since
            return hold.reason == OUTAGE and age > _OUTAGE_LASTS
        if answer is None:
            self._holding.forget(account, domain, ref)
            answer = _all(batch, Reason.WINDOW_CLOSED, "it closed during a hold")
        elif isinstance(answer, Conflicting):
            answer = _all(batch, Reason.IDEMPOTENCY_CONFLICT, answer.detail)
            self._holding.forget(account, domain, ref)
        if isinstance(answer, BatchResult):
            self._claims.resolve(*ref, owner, answer)
            return answer.items[0].word != Reason.WINDOW_CLOSED
        # Refused for its content: its members are decided about anew when they come back.
        self._claims.lay_down(*ref, owner)
        return True


def _all(batch: PinnedBatch, reason: Reason, detail: str) -> BatchResult:
    return BatchResult(1, [ItemResult.of(reason, detail)] * len(batch.payload))
