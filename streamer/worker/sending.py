"""Sending a pinned batch: the same bytes under the same key, until the answer is definite."""

import logging
import random
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from threading import Lock
from typing import NamedTuple, NoReturn

from streamer import metrics
from streamer.flow import verdicts
from streamer.flow.rate import allowed_rate
from streamer.flow.retry import Backoff
from streamer.flow.troubles import Troubles
from streamer.flow.verdicts import Trouble
from streamer.ledger.claims import Claims, StoredBatch
from streamer.ledger.connection import UNREACHABLE
from streamer.ledger.holds import OUTAGE, BatchRef
from streamer.ledger.limiter import LONGEST_PAUSE_S, Held, Later, Limiter, Slot
from streamer.model.parking import Scope
from streamer.model.payload import Payload
from streamer.model.reasons import Reason
from streamer.model.record import Parked
from streamer.model.result import BatchResult, ItemResult, Learned
from streamer.provider.accounts import Accounts, NoKeyError
from streamer.provider.answers import (
    ACCEPTED,
    Again,
    Conflicting,
    OnHold,
    Refused,
    Taken,
    Throttled,
    Verdict,
    judge,
    result_label,
)
from streamer.provider.client import Answer, ResendClient
from streamer.settings import Delivery
from streamer.worker.holding import Holding, as_hold
from streamer.worker.waiting import Waiting, deadline_clock

logger = logging.getLogger(__name__)

# What grows while a provider is down is the distance of the account's calls: see its circuit.
_TROUBLE = Backoff(base_s=0.5, cap_s=5.0)
_BLIND_PAUSE_S = 0.1
_ASK_AGAIN_S = 1.0
_LATE_S = 0.003
"""A call that leaves later than that is told to those that come behind it."""
_READINGS = 3
RATE_LIMITED = "rate_limit_exceeded"
_OWNED_S = 5.0
"""For so long after a batch was known to be its owner's may calls for it leave."""
_ALONE_AFTER_S = _OWNED_S + 1.0
"""So long after a batch was adopted no call of an earlier owner's can still arrive anywhere."""


class LaidDown(NamedTuple):
    """A batch that waits, with its members, for what `parked` says.

    Attributes:
        untouched: every call for it was refused for certain: Resend has nothing of it.
    """

    parked: Parked
    untouched: bool


@dataclass(slots=True)
class PinnedBatch:
    """A batch that its owner sends. Times are seconds on the clock of `deadline_clock`.

    Attributes:
        sender: the domain that its mails come from.
        owner: as it was adopted; empty for who pinned it.
        asked_at: when the ledger was asked that knew it as this owner's; so long, at least, it
            has been.
        age_s: since it was pinned, at `asked_at`.
        alone_from: from when on no call of an earlier owner's can arrive.
        learned: what is known of its parts.
    """

    ref: BatchRef
    account: str
    sender: str
    payload: Payload
    owner: str
    asked_at: float
    age_s: float = 0.0
    alone_from: float = 0.0
    learned: Learned = field(default_factory=Learned)


def adopted(
    batch: StoredBatch, ref: BatchRef, payload: Payload, owner: str, asked_at: float
) -> PinnedBatch:
    """A batch that was adopted just now; `asked_at` as in `PinnedBatch`."""
    return PinnedBatch(
        ref,
        batch.account,
        batch.sender,
        payload,
        owner,
        asked_at,
        batch.age_s,
        deadline_clock() + _ALONE_AFTER_S,
        batch.learned,
    )


class Sender:
    """Sends batches through the accounts, at their shared rates."""

    def __init__(
        self,
        settings: Delivery,
        accounts: Accounts,
        client: ResendClient,
        claims: Claims,
        limiter: Limiter,
        holding: Holding,
        waiting: Waiting,
    ) -> None:
        self._settings = settings
        self._accounts = accounts
        self._client = client
        self._claims = claims
        self._limiter = limiter
        self._holding = holding
        self._waiting = waiting
        self._lock = Lock()
        self._turns: dict[str, Lock] = {}
        self._ask_at: dict[str, float] = {}
        """When this worker asks again for a slot of an account that had none."""
        self._successes: Counter[str] = Counter()
        self.troubles = Troubles(settings.set_aside_s)
        """Of the organizations whose batches it sends."""
        self.pressed = False
        """Whether much waits behind batches that keep failing: one that fails alone goes aside
        sooner."""

    def take_slot(
        self,
        account: str,
        sender: str,
        despite_hold: bool = False,
        while_open: Callable[[], None] = lambda: None,
    ) -> Slot | Held:
        """Wait for the account's next send slot, or learn that it is held.

        A worker takes one slot at a time and waits for it before it takes the next: were it
        killed, that one is lost, and not all that its threads could have queued up for.

        Args:
            while_open: called each time that there is none for a while.
        """
        asked = time.monotonic()
        while True:
            with self._turns.setdefault(account, Lock()):
                wait_s = self._ask_at.get(account, 0.0) - time.monotonic()
                if wait_s <= 0:
                    slot = self._take_slot(account, sender, despite_hold)
                    if not isinstance(slot, Later):
                        metrics.THROTTLED.labels(account).inc(time.monotonic() - asked)
                        return slot
                    wait_s = min(slot.wait_s, _ASK_AGAIN_S)
                    self._ask_at[account] = time.monotonic() + wait_s
            while_open()
            self._waiting.sleep(wait_s)

    def _take_slot(self, account: str, sender: str, despite_hold: bool) -> Slot | Later | Held:
        with self._lock:
            successes = self._successes.pop(account, 0)
        rate = self._rate(account)
        take = partial(self._limiter.take, account, rate, sender, successes, despite_hold)
        slot = self._waiting.for_redis(take)
        if isinstance(slot, Slot):
            self._waiting.sleep(slot.wait_s)
        return slot

    def send(self, batch: PinnedBatch, slot: Slot | None = None) -> BatchResult | LaidDown:
        """Send a pinned batch, and return what came of each of its mails.

        What is not known when it becomes older than the safe window is `window_closed`.

        Args:
            slot: for the first call, if the caller took one.

        Raises:
            TakenOverError: it is another's now.
        """
        course = _Course(batch, self._settings.safe_window_s, slot)
        try:
            items = self._send("", batch.payload, course)
        except _LayDown as laid_down:
            return LaidDown(laid_down.parked, not course.unsure)
        finally:
            self.troubles.ended(*batch.ref, time.monotonic())
        return BatchResult(batch.learned.attempts, items)

    def test_hold(self, batch: PinnedBatch) -> BatchResult | Verdict | None:
        """Make the one call that tests a hold, in the send slot that the caller took.

        Returns the batch's result if it has one now, None if its safe window closed before the
        call, or what the answer means.

        Raises:
            TakenOverError: it is another's now.
        """
        course = _Course(batch, self._settings.safe_window_s, None)
        while deadline_clock() < course.deadline:
            answer = self._call(batch.ref.batch_id, batch.payload, course)
            if answer.kept_back:
                self.take_slot(batch.account, batch.sender, despite_hold=True)
                continue
            verdict = judge(answer, len(batch.payload))
            if not isinstance(verdict, Taken):
                return verdict
            self._waiting.for_redis(lambda: self._limiter.succeeded(batch.account))
            return BatchResult(1, verdict.items)
        return None

    def _send(self, suffix: str, payload: Payload, course: "_Course") -> list[ItemResult]:
        """Send what an idempotency key stands for, the batch's own with this suffix."""
        learned = course.batch.learned
        if suffix in learned.parts:
            return learned.parts[suffix]
        if suffix not in learned.refused:
            verdict = self._until_definite(course.batch.ref.batch_id + suffix, payload, course)
            if not isinstance(verdict, Refused) or len(payload) == 1:
                items = _items(verdict, len(payload))
                if suffix:
                    learned.parts[suffix] = items
                    self._keep_learned(course)
                return items
            # Some mail spoils the others. The halves' keys follow from this one's and their
            # bytes from the pinned ones. Whoever adopts the batch must know that it is in halves:
            # sent as a whole, should the refusal be over, the first half would go out twice.
            learned.refused.add(suffix)
            self._keep_learned(course)
        first, second = payload.halves()
        return self._send(f"{suffix}.0", first, course) + self._send(f"{suffix}.1", second, course)

    def _keep_learned(self, course: "_Course") -> None:
        """Keep with the batch what is known of its parts, as its owner."""
        course.batch.asked_at = self._waiting.for_redis(
            partial(_own, self._claims, course.batch, course.batch.learned)
        )

    def _stay_owner(self, course: "_Course") -> None:
        """Make sure that the batch is this owner's for long enough to make a call."""
        if deadline_clock() - course.batch.asked_at > _OWNED_S / 2:
            course.batch.asked_at = self._waiting.for_redis(
                partial(_own, self._claims, course.batch)
            )

    def _until_definite(
        self, key: str, payload: Payload, course: "_Course"
    ) -> Taken | Refused | Conflicting | ItemResult:
        batch = course.batch
        account = batch.account
        course.begin_key()
        failures = unreadable = 0
        while True:
            self._await_slot(key, course)
            called_at = deadline_clock()
            if called_at >= course.deadline:
                logger.error(
                    "the safe window closed on a batch whose fate is not known",
                    extra={"account": account, "batch": key, "trouble": course.trouble},
                )
                detail = f"the last trouble was {course.trouble}"
                return ItemResult.of(Reason.WINDOW_CLOSED, detail)
            answer = self._call(key, payload, course)
            if answer.kept_back:
                continue
            verdict = judge(answer, len(payload))
            batch.learned.attempts += not isinstance(verdict, Throttled)
            if isinstance(verdict, Throttled):
                course.trouble = RATE_LIMITED
                if verdict.after_s > LONGEST_PAUSE_S:
                    until = datetime.now(UTC) + timedelta(seconds=verdict.after_s)
                    self._hold(course, OnHold(RATE_LIMITED, answer.message), until)
                pause = max(verdict.after_s, _BLIND_PAUSE_S)
                self._waiting.for_redis(partial(self._limiter.pause, account, pause))
            elif isinstance(verdict, OnHold):
                self._hold(course, verdict)
            elif isinstance(verdict, Again):
                failures += 1
                unreadable += verdict.unreadable
                if unreadable == _READINGS:
                    detail = "Resend took the batch, but its answer cannot be understood"
                    return ItemResult.of(Reason.PROVIDER_ERROR, detail)
                given_up = self._in_trouble(key, verdict, failures, answer, course)
                if given_up is not None:
                    return given_up
                self._waiting.sleep(_TROUBLE.delay(failures, random.random, verdict.after_s))
            elif isinstance(verdict, Refused) and called_at < batch.alone_from:
                # A call of an earlier owner's may arrive after this one and be taken: asked once
                # more, when none can arrive any more, the key answers for that one too.
                self._waiting.sleep(max(0.0, batch.alone_from - deadline_clock()))
            else:
                if isinstance(verdict, Conflicting):
                    logger.error(
                        "Resend has another payload under this idempotency key: what became of "
                        "the batch is not known",
                        extra={"account": account, "batch": key},
                    )
                course.unsure |= not isinstance(verdict, Refused)
                self._got_through(account, course)
                return verdict

    def _await_slot(self, key: str, course: "_Course") -> None:
        if course.slot is None:
            slot = self.take_slot(
                course.batch.account,
                course.batch.sender,
                while_open=partial(self._set_aside_if_due, key, course),
            )
            if isinstance(slot, Held):
                raise _LayDown(Parked(Scope.of_hold(course.batch.account, slot.domain)))
            course.slot = slot
        course.failures_before = course.slot.failures
        course.slot = None

    def _rate(self, account: str) -> float:
        return allowed_rate(
            self._accounts.requests_per_second(account), self._holding.limit(account)
        )

    def _call(self, key: str, payload: Payload, course: "_Course") -> Answer:
        """Make one call; it is kept back if it could not leave in time.

        Raises:
            TakenOverError: the batch is another's now.
        """
        batch = course.batch
        account = batch.account
        try:
            api_key = self._accounts.key(account)
        except NoKeyError as error:
            return Answer(401, "missing_api_key", str(error), {}, {})
        depart = partial(self._limiter.depart, account, self._rate(account))
        asked = time.monotonic()
        departure = self._waiting.for_redis(depart)
        if departure is not None:
            self._waiting.sleep(departure.wait_s)
        self._stay_owner(course)
        leave_by = min(course.deadline, batch.asked_at + _OWNED_S)
        started = time.perf_counter()
        answer = self._client.send_batch(
            api_key, key, payload.body, may_leave=lambda: deadline_clock() < leave_by
        )
        if answer.kept_back:
            return answer
        metrics.SEND.observe(time.perf_counter() - started)
        if departure is not None and answer.left_at is not None:
            late_s = answer.left_at - asked - departure.wait_s
            if late_s > _LATE_S:
                with suppress(*UNREACHABLE):  # at worst one call is answered 429
                    self._limiter.departed_late(account, departure, late_s)
        metrics.BATCH_EMAILS.observe(len(payload))
        result = result_label(answer)
        metrics.API_REQUESTS.labels(account, result).inc()
        if result != ACCEPTED:
            with suppress(*UNREACHABLE):  # it is there to be shown, no more
                self._limiter.note(account, result, answer.message)
        limit = answer.headers.get("ratelimit-limit", "")
        if limit.isdecimal() and int(limit) > 0:
            self._holding.learn_limit(account, int(limit))
        return answer

    def _got_through(self, account: str, course: "_Course") -> None:
        self.troubles.taken(course.batch.ref.organization)
        if course.failures_before or course.failed:
            self._waiting.for_redis(lambda: self._limiter.succeeded(account))
        else:
            with self._lock:
                self._successes[account] += 1

    def _hold(self, course: "_Course", verdict: OnHold, until: datetime | None = None) -> NoReturn:
        """Hold the account, or the sender's domain, and lay the batch down."""
        batch = course.batch
        # What is in halves cannot test it: it is no one call any more. Nor can what a key that is
        # used stands for: it would be answered the same for as long as Resend keeps that.
        test_with = None if batch.learned.refused or verdict.is_key_used else batch.ref
        put = partial(
            self._holding.put,
            batch.account,
            batch.sender,
            as_hold(verdict, until),
            test_with,
            of_sender=verdict.of_sender,
        )
        raise _LayDown(Parked(self._waiting.for_redis(put)))

    def _in_trouble(
        self, key: str, verdict: Again, failures: int, answer: Answer, course: "_Course"
    ) -> ItemResult | None:
        """Decide what a failure means: the outcome of a batch that is given up, or None to go on.

        Raises:
            _LayDown: the batch is set aside, or its account is.
        """
        batch = course.batch
        course.unsure = True
        course.trouble = verdict.why
        logger.warning(
            "Resend did not take the batch, it will be sent again",
            extra={
                "account": batch.account,
                "batch": key,
                "error": verdict.why,
                "status": answer.status,
                "words": answer.message,
                "failures": failures,
            },
        )
        if verdict.failing:
            course.failed = True
            named = (batch.account, batch.ref.batch_id)
            health = self._waiting.for_redis(lambda: self._limiter.failed(*named))
            others_failing = health.batches - 1
            outage = health.failures >= verdicts.OUTAGE_FAILURES and others_failing > 0
            others_wait = len(self._accounts.names()) > 1
            if outage and others_wait and health.failing_s >= verdicts.OUTAGE_PATIENCE_S:
                # Elsewhere it may be fine; what waits here must not hold that up.
                self._hold(course, OnHold(OUTAGE, f"{verdict.why}: {answer.message}"))
            successes = health.successes
        else:
            successes = self._waiting.for_redis(lambda: self._limiter.successes(batch.account))
            others_failing = 0
        now = time.monotonic()
        is_first = course.first_failure is None
        since, successes_then = course.first_failure = course.first_failure or (now, successes)
        age_s = course.age_s()
        trouble = Trouble(now - since, age_s, successes - successes_then, others_failing)
        course.last_trouble = trouble
        if not is_first:
            self.troubles.failed(*batch.ref, trouble)
        if trouble.gives_up(self._settings.set_aside_s, self._settings.give_up_s):
            return ItemResult.of(Reason.PROVIDER_ERROR, f"{verdict.why}: {answer.message}")
        if trouble.sets_aside(self._settings.set_aside_s, self.pressed):
            self._set_aside(key, course, age_s)
        return None

    def _set_aside_if_due(self, key: str, course: "_Course") -> None:
        """Set a batch aside whose time has come while its account's circuit is open: calls are
        far apart then, and it can be the very batch that keeps others from calling.

        Raises:
            _LayDown: it is set aside.
        """
        if course.last_trouble is None or course.first_failure is None:
            return
        now = time.monotonic()
        since, _ = course.first_failure
        trouble = replace(course.last_trouble, lasting_s=now - since, age_s=course.age_s())
        if trouble.is_its_own and trouble.sets_aside(self._settings.set_aside_s, self.pressed):
            self._set_aside(key, course, trouble.age_s)

    def _set_aside(self, key: str, course: "_Course", age_s: float) -> NoReturn:
        wait_s = verdicts.next_try_s(age_s, self._settings.set_aside_s, self._settings.give_up_s)
        logger.error(
            "a batch keeps failing, it is set aside",
            extra={"account": course.batch.account, "batch": key, "seconds": round(wait_s)},
        )
        until_ms = round((time.time() + wait_s) * 1000)
        raise _LayDown(Parked(Scope.of_batch(*course.batch.ref), until_ms))


class _LayDown(Exception):  # noqa: N818 - no error, a decision
    """The batch waits, with its members."""

    def __init__(self, parked: Parked) -> None:
        super().__init__(parked)
        self.parked = parked


class _Course:
    """What the calls for one batch share.

    Attributes:
        deadline: no call for it leaves later.
        unsure: Resend may have taken something of it.
        first_failure: of the key that is being sent: when, and how many successes the account
            had then.
        failures_before: calls of the account in a row that had failed when the slot was taken.
    """

    def __init__(self, batch: PinnedBatch, safe_window_s: float, slot: Slot | None) -> None:
        self.batch = batch
        self.deadline = batch.asked_at + safe_window_s - batch.age_s
        self.slot = slot
        self.unsure = bool(batch.learned.parts)
        self.failed = False
        self.trouble = "no call was made"
        self.failures_before = 0
        self._pinned_at = batch.asked_at - batch.age_s
        self.begin_key()

    def begin_key(self) -> None:
        """A key is about to be sent: how it fares says nothing of how others did."""
        self.first_failure: tuple[float, int] | None = None
        self.last_trouble: Trouble | None = None

    def age_s(self) -> float:
        """Seconds since the batch was pinned."""
        return deadline_clock() - self._pinned_at


def _own(claims: Claims, batch: PinnedBatch, learned: Learned | None = None) -> float:
    """Check that the batch is its owner's, and keep what it learned; returns since when it is."""
    asked_at = deadline_clock()
    claims.own(*batch.ref, batch.owner, learned)
    return asked_at


def _items(verdict: Taken | Refused | Conflicting | ItemResult, count: int) -> list[ItemResult]:
    """What a definite answer says of each mail of a key."""
    if isinstance(verdict, Taken):
        return verdict.items
    if isinstance(verdict, Refused):
        return [ItemResult.of(Reason.REJECTED, verdict.detail)] * count
    if isinstance(verdict, Conflicting):
        return [ItemResult.of(Reason.IDEMPOTENCY_CONFLICT, verdict.detail)] * count
    return [verdict] * count
