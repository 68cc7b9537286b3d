"""Sending a pinned batch: the same bytes under the same key, until the answer is definite."""

import logging
import random
import time
from threading import Lock

from streamer import metrics
from streamer.flow.rate import allowed_rate
from streamer.flow.retry import Backoff
from streamer.ledger.limiter import Limiter
from streamer.model.payload import Payload
from streamer.model.reasons import Reason
from streamer.model.result import BatchResult, ItemResult
from streamer.provider.accounts import Accounts, NoKeyError
from streamer.provider.answers import Again, Conflicting, Refused, Taken, judge, result_label
from streamer.provider.client import Answer, ResendClient
from streamer.worker.waiting import Waiting, deadline_clock

logger = logging.getLogger(__name__)

_TROUBLE = Backoff(base_s=0.5, cap_s=30.0)
_HELD = Backoff(base_s=2.0, cap_s=60.0)
_READINGS = 3


class Sender:
    """Sends batches through the accounts, at their shared rates."""

    def __init__(
        self, accounts: Accounts, client: ResendClient, limiter: Limiter, waiting: Waiting
    ) -> None:
        self._accounts = accounts
        self._client = client
        self._limiter = limiter
        self._waiting = waiting
        self._advertised: dict[str, float] = {}
        self._held: dict[str, set[str]] = {}
        self._held_lock = Lock()
        self._turns: dict[str, Lock] = {}

    def take_slot(self, account: str) -> None:
        """Wait for the account's next send slot.

        A worker takes one slot at a time and waits for it before it takes the next: were it
        killed, that one is lost, and not all that its threads could have queued up for.
        """
        rate = allowed_rate(
            self._accounts.requests_per_second(account), self._advertised.get(account)
        )
        asked = time.monotonic()
        with self._turns.setdefault(account, Lock()):
            self._waiting.sleep(self._waiting.for_redis(lambda: self._limiter.take(account, rate)))
        metrics.THROTTLED.labels(account).inc(time.monotonic() - asked)

    def send(
        self,
        account: str,
        batch_id: str,
        payload: Payload,
        seconds_left: float,
        slot_taken: bool,
    ) -> BatchResult:
        """Send a pinned batch, and return what came of each of its mails.

        Args:
            seconds_left: of the safe window; the batch is `window_closed` when it has passed.
            slot_taken: the caller took the slot for the first call.
        """
        attempt = _Attempt(deadline_clock() + seconds_left, slot_taken)
        items = self._send(account, batch_id, payload, attempt)
        return BatchResult(attempt.count, items)

    def _send(
        self, account: str, key: str, payload: Payload, attempt: "_Attempt"
    ) -> list[ItemResult]:
        verdict = self._until_definite(account, key, payload, attempt)
        if isinstance(verdict, Taken):
            return verdict.items
        if isinstance(verdict, Refused):
            if len(payload) == 1:
                return [ItemResult.of(Reason.REJECTED, verdict.detail)]
            # Some mail spoils the others. The halves' keys follow from this one's and their
            # bytes from the pinned ones, so that whoever repeats this after a crash repeats
            # the same calls.
            first, second = payload.halves()
            return self._send(account, f"{key}.0", first, attempt) + self._send(
                account, f"{key}.1", second, attempt
            )
        if isinstance(verdict, Conflicting):
            logger.error(
                "Resend has another payload under this idempotency key: what became of the "
                "batch is not known",
                extra={"account": account, "batch": key},
            )
            return [ItemResult.of(Reason.IDEMPOTENCY_CONFLICT, verdict.detail)] * len(payload)
        return [verdict] * len(payload)

    def _until_definite(
        self, account: str, key: str, payload: Payload, attempt: "_Attempt"
    ) -> Taken | Refused | Conflicting | ItemResult:
        failures = unreadable = 0
        trouble = "no call was made"
        while True:
            if not attempt.slot_taken:
                self.take_slot(account)
            attempt.slot_taken = False
            if deadline_clock() >= attempt.deadline:
                logger.error(
                    "the safe window closed on a batch whose fate is not known",
                    extra={"account": account, "batch": key, "trouble": trouble},
                )
                return ItemResult.of(Reason.WINDOW_CLOSED, f"the last trouble was {trouble}")
            answer = self._call(account, key, payload)
            verdict = judge(answer, len(payload))
            throttled = isinstance(verdict, Again) and verdict.why == "rate_limit_exceeded"
            attempt.count += not throttled
            if not isinstance(verdict, Again):
                self._released(account)
                return verdict
            failures += 1
            trouble = verdict.why
            unreadable += verdict.unreadable
            if unreadable == _READINGS:
                detail = "Resend took the batch, but its answer cannot be understood"
                return ItemResult.of(Reason.PROVIDER_ERROR, detail)
            self._back_off(account, key, verdict, failures, answer)

    def _call(self, account: str, key: str, payload: Payload) -> Answer:
        try:
            api_key = self._accounts.key(account)
        except NoKeyError as error:
            return Answer(401, "missing_api_key", str(error), {}, {})
        started = time.perf_counter()
        answer = self._client.send_batch(api_key, key, payload.body)
        metrics.SEND.observe(time.perf_counter() - started)
        metrics.BATCH_EMAILS.observe(len(payload))
        metrics.API_REQUESTS.labels(account, result_label(answer)).inc()
        limit = answer.headers.get("ratelimit-limit", "")
        if limit.isdecimal() and int(limit) > 0:
            self._advertised[account] = float(limit)
        return answer

    def _back_off(
        self, account: str, key: str, verdict: Again, failures: int, answer: Answer
    ) -> None:
        if verdict.held:
            with self._held_lock:
                self._held.setdefault(account, set()).add(verdict.why)
                metrics.ACCOUNT_HELD.labels(account, verdict.why).set(1)
        logger.log(
            logging.ERROR if verdict.held and failures == 1 else logging.WARNING,
            "Resend did not take the batch, it will be sent again",
            extra={
                "account": account,
                "batch": key,
                "error": verdict.why,
                "status": answer.status,
                "words": answer.message,
                "failures": failures,
            },
        )
        if verdict.why == "rate_limit_exceeded":
            pause = max(verdict.after_s, 0.1)
            self._waiting.for_redis(lambda: self._limiter.pause(account, pause))
        backoff = _HELD if verdict.held else _TROUBLE
        self._waiting.sleep(backoff.delay(failures, random.random, verdict.after_s))

    def _released(self, account: str) -> None:
        with self._held_lock:
            ended = self._held.pop(account, set())
            for reason in ended:
                metrics.ACCOUNT_HELD.labels(account, reason).set(0)
        for reason in ended:
            logger.info("the account works again", extra={"account": account, "reason": reason})


class _Attempt:
    """What the calls for one batch share."""

    def __init__(self, deadline: float, slot_taken: bool) -> None:
        self.deadline = deadline
        self.slot_taken = slot_taken
        self.count = 0
