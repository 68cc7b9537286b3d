"""Sends a pinned batch: the same bytes under the same key, until the response is definite."""

import logging
import random
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import NamedTuple

from streamer.flow.failures import FailureTracker
from streamer.flow.policy import (
    RATE_LIMITED,
    Blame,
    Defer,
    Failed,
    GiveUp,
    HoldAccount,
    PauseAccount,
    Policy,
    RetryAfter,
    Settle,
    Step,
    Tries,
    UnexplainedRefusal,
)
from streamer.ledger.limiter import Held, Slot, SlotUnavailable
from streamer.model.disposition import (
    Accepted,
    Conflicting,
    Disposition,
    RateLimited,
    Rejected,
    Retry,
)
from streamer.model.parking import BATCH, Scope
from streamer.model.payload import Payload
from streamer.model.reasons import Reason
from streamer.model.record import Parked
from streamer.model.result import BatchResult, ItemResult
from streamer.provider.client import ApiResponse
from streamer.provider.responses import classify_response
from streamer.worker.account_states import AccountStateCache, as_hold
from streamer.worker.calling import Caller
from streamer.worker.halving import Halving, KeyResult, Settled
from streamer.worker.pinned import Ownership, PinnedBatch
from streamer.worker.slots import Slots
from streamer.worker.waiter import Waiter

logger = logging.getLogger(__name__)

_LOOK_EVERY_S = 0.5


class Deferred(NamedTuple):
    """A batch that waits, with its members, for what `parked` says.

    Attributes:
        not_accepted: whether every call was definitely refused, so that Resend accepted none of
            it.
    """

    parked: Parked
    not_accepted: bool


@dataclass(slots=True)
class SendAttempt:
    """State shared by the calls for one batch. Times are seconds on `WorkerClock.boottime`.

    Attributes:
        deadline: when calls for the batch may no longer leave.
        slot: for the next call, if one was taken.
        maybe_accepted: whether Resend may have accepted some of the batch.
        failed: whether a call failed in a way that may affect the whole account.
        last_error: name of the last error.
        failures_before: consecutive failed calls of the account when the slot was taken.
        key: the idempotency key being sent.
        tries: the tries of that key.
    """

    batch: PinnedBatch
    pinned_at: float
    deadline: float
    slot: Slot | None
    maybe_accepted: bool
    failed: bool = False
    last_error: str = "no call was made"
    failures_before: int = 0
    key: str = ""
    tries: Tries = field(default_factory=Tries)

    def begin_key(self, key: str, blame: Blame) -> None:
        """Start sending a key, with a new count of tries."""
        self.key = key
        self.tries = Tries(blame)

    def age_s(self, now: float) -> float:
        """Seconds since the batch was pinned."""
        return now - self.pinned_at


class Sender:
    """Sends batches through the accounts, at their shared rate limits.

    Args:
        failures: tracks the failures of the organizations.
    """

    def __init__(
        self,
        caller: Caller,
        slots: Slots,
        ownership: Ownership,
        account_states: AccountStateCache,
        policy: Policy,
        failures: FailureTracker,
        waiter: Waiter,
    ) -> None:
        self._caller = caller
        self._slots = slots
        self._ownership = ownership
        self._account_states = account_states
        self._policy = policy
        self._failures = failures
        self._waiter = waiter
        self._clock = waiter.clock

    def send(self, batch: PinnedBatch, slot: Slot | None = None) -> BatchResult | Deferred:
        """Send a pinned batch, and return the result of each of its mails.

        Mails whose result is unknown when the safe window closes are `window_closed`.

        Args:
            slot: for the first call, if the caller took one.

        Raises:
            TakenOverError: another owner has the batch now.
        """
        attempt = self._begin(batch, slot)
        send_key = partial(self._send_key, attempt)
        try:
            items = Halving(batch, send_key, self._ownership.save_split_progress).send()
        finally:
            self._failures.forget_batch(*batch.ref, self._clock.monotonic())
        if isinstance(items, Parked):
            # A batch parked for itself (BATCH) keeps its pin, and with it the age by which it is
            # given up.
            untouched = not attempt.maybe_accepted and items.scope.kind != BATCH
            return Deferred(items, untouched)
        return BatchResult(batch.split_progress.attempts, items)

    def test_hold(self, batch: PinnedBatch) -> BatchResult | Disposition | None:
        """Make the one call that tests a hold, in the send slot that the caller took.

        Returns:
            The batch's result if it was accepted, the response's disposition if not, or None if
            its safe window closed before the call.

        Raises:
            TakenOverError: another owner has the batch now.
        """
        deadline = self._begin(batch, None).deadline
        while self._clock.boottime() < deadline:
            response = self._caller.call(batch, batch.ref.batch_id, batch.payload, deadline)
            if response.withheld:
                self._slots.take(batch.account, batch.sender, ignore_hold=True)
                continue
            disposition = classify_response(response, len(batch.payload))
            if not isinstance(disposition, Accepted):
                return disposition
            self._slots.record_success(batch.account, after_failures=True)
            return BatchResult(1, disposition.items)
        return None

    def _begin(self, batch: PinnedBatch, slot: Slot | None) -> SendAttempt:
        pinned_at = batch.asked_at - batch.age_s
        deadline = pinned_at + self._policy.safe_window_s
        return SendAttempt(batch, pinned_at, deadline, slot, bool(batch.split_progress.parts))

    def _send_key(
        self, attempt: SendAttempt, key: str, payload: Payload, blame: Blame
    ) -> KeyResult:
        attempt.begin_key(key, blame)
        settled = self._until_definite(attempt, payload)
        is_refused = isinstance(settled, Rejected | UnexplainedRefusal | Parked)
        return KeyResult(settled, is_refused and attempt.tries.only_refusals)

    def _until_definite(self, attempt: SendAttempt, payload: Payload) -> Settled | Parked:
        """Send a payload under a key until the result is definite, or the batch is deferred."""
        batch, account, key = attempt.batch, attempt.batch.account, attempt.key
        while True:
            slot = self._next_slot(attempt)
            if not isinstance(slot, Slot):
                return slot
            attempt.failures_before = slot.failures
            called_at = self._clock.boottime()
            if called_at >= attempt.deadline:
                return _close_window(attempt)
            response = self._caller.call(batch, key, payload, attempt.deadline)
            if response.withheld:
                continue
            disposition = classify_response(response, len(payload))
            match step := self._next_step(attempt, called_at, response, disposition):
                case RetryAfter(wait_s):
                    reached = self._wait(attempt, wait_s)
                    if reached is not None:
                        return reached
                case PauseAccount(wait_s):
                    self._slots.pause(account, wait_s)
                case Settle(definite):
                    self._settle(attempt, definite)
                    return definite
                case GiveUp(reason, detail):
                    return ItemResult.of(reason, detail)
                case HoldAccount():
                    return self._hold(batch, step, response.status)
                case Defer() | UnexplainedRefusal():
                    return _stop_sending(attempt, step, self._clock.time())

    def _next_slot(self, attempt: SendAttempt) -> Slot | Parked | UnexplainedRefusal:
        """Wait for the slot of the next call; or return why to stop sending the key."""
        if attempt.slot is not None:
            slot, attempt.slot = attempt.slot, None
            return slot
        batch, asked_at = attempt.batch, self._clock.monotonic()
        while isinstance(
            asked := self._slots.ask(batch.account, batch.sender, asked_at), SlotUnavailable
        ):
            reached = self._while_waiting(attempt)
            if reached is not None:
                return reached
            self._waiter.sleep(asked.wait_s)
        if isinstance(asked, Held):
            return Parked(Scope.of_hold(batch.account, asked.domain))
        return asked

    def _wait(self, attempt: SendAttempt, wait_s: float) -> Parked | UnexplainedRefusal | None:
        """Wait before a retry; return why to stop sending the key, or None to retry."""
        batch, until = attempt.batch, self._clock.monotonic() + wait_s
        while (left_s := until - self._clock.monotonic()) > 0:
            scope = self._account_states.scope_of(batch.account, batch.sender)
            if scope is not None:
                return Parked(scope)
            reached = self._while_waiting(attempt)
            if reached is not None:
                return reached
            self._waiter.sleep(min(left_s, _LOOK_EVERY_S))
        return None

    def _while_waiting(self, attempt: SendAttempt) -> Parked | UnexplainedRefusal | None:
        age_s = attempt.age_s(self._clock.boottime())
        stats = attempt.tries.stats(age_s, self._clock.monotonic())
        step = self._policy.while_waiting(
            attempt.tries, stats, under_backpressure=self._failures.under_backpressure
        )
        return None if step is None else _stop_sending(attempt, step, self._clock.time())

    def _next_step(
        self,
        attempt: SendAttempt,
        called_at: float,
        response: ApiResponse,
        disposition: Disposition,
    ) -> Step:
        """Decide the next step after a response, and record the response where it counts."""
        batch = attempt.batch
        alone_in_s = None
        if called_at < batch.sole_owner_from:
            alone_in_s = max(0.0, batch.sole_owner_from - self._clock.boottime())
        attempt.tries.count(disposition, response.message, alone_in_s)
        if isinstance(disposition, RateLimited):
            attempt.last_error = RATE_LIMITED
        else:
            batch.split_progress.attempts += 1
        step = self._policy.after_response(disposition, response.message, attempt.tries, alone_in_s)
        if isinstance(step, Failed):
            return self._after_failure(attempt, response, step.disposition)
        return step

    def _after_failure(self, attempt: SendAttempt, response: ApiResponse, failure: Retry) -> Step:
        """Decide the next step after a failed call, counting it for account and organization."""
        batch, tries = attempt.batch, attempt.tries
        attempt.maybe_accepted |= not failure.may_be_content
        attempt.last_error = failure.reason
        attempt.failed |= failure.failing
        logger.warning(
            "call failed, the batch will be retried",
            extra={
                "account": batch.account,
                "batch": attempt.key,
                "error": failure.reason,
                "status": response.status,
                "detail": response.message,
                "failures": tries.failures,
            },
        )
        health = self._slots.record_failure(
            batch.account, batch.ref.batch_id, counts=failure.failing
        )
        age_s = attempt.age_s(self._clock.boottime())
        stats = tries.observe(health, age_s, self._clock.monotonic())
        step = self._policy.after_failure(
            failure,
            tries,
            health,
            stats,
            random.random,
            under_backpressure=self._failures.under_backpressure,
        )
        if tries.failures > 1 and not isinstance(step, HoldAccount):
            self._failures.record_failure(*batch.ref, stats)
        return step

    def _settle(self, attempt: SendAttempt, definite: Accepted | Rejected | Conflicting) -> None:
        batch = attempt.batch
        if isinstance(definite, Conflicting):
            logger.error(
                "Resend has a different payload under this idempotency key: whether the batch "
                "was accepted is unknown",
                extra={"account": batch.account, "batch": attempt.key},
            )
        attempt.maybe_accepted |= not isinstance(definite, Rejected)
        self._failures.record_success(batch.ref.organization)
        after_failures = attempt.failed or attempt.failures_before > 0
        self._slots.record_success(batch.account, after_failures=after_failures)

    def _hold(self, batch: PinnedBatch, step: HoldAccount, status: int | None) -> Parked:
        """Hold the account, or the sender's domain; return what the batch waits for now."""
        now, until = self._clock.utc(), None
        if step.lasts_s is not None:
            until = now + timedelta(seconds=step.lasts_s)
        # A split batch cannot test the hold, as it takes more than one call. Nor can a used
        # idempotency key: Resend repeats the same response for as long as it keeps the key.
        is_one_call = not (batch.split_progress.rejected or step.cause.is_key_used)
        test_with = batch.ref if is_one_call else None
        put = partial(
            self._account_states.put,
            batch.account,
            batch.sender,
            as_hold(step.cause, batch.ref, now, status, until),
            test_with,
            sender_only=step.cause.sender_only,
        )
        return Parked(self._waiter.retry_redis(put))


def _close_window(attempt: SendAttempt) -> ItemResult:
    logger.error(
        "safe window closed before the result of the batch was known",
        extra={
            "account": attempt.batch.account,
            "batch": attempt.key,
            "error": attempt.last_error,
        },
    )
    return ItemResult.of(Reason.WINDOW_CLOSED, f"last error: {attempt.last_error}")


def _stop_sending(
    attempt: SendAttempt, step: Defer | UnexplainedRefusal, now: float
) -> Parked | UnexplainedRefusal:
    batch = attempt.batch
    if isinstance(step, UnexplainedRefusal):
        logger.warning(
            "Resend rejected the batch for an unknown reason, perhaps one of its mails",
            extra={"account": batch.account, "batch": attempt.key, "detail": step.message},
        )
        return step
    logger.error(
        "batch keeps failing, deferring it",
        extra={"account": batch.account, "batch": attempt.key, "seconds": round(step.wait_s)},
    )
    until_ms = round((now + step.wait_s) * 1000)
    return Parked(Scope.of_batch(*batch.ref), until_ms)
