"""One worker's access to the accounts' shared rate limits and circuit breakers."""

import secrets
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from threading import Lock

from streamer import metrics
from streamer.flow.failure_stats import AccountHealth
from streamer.flow.rate import allowed_rate
from streamer.ledger.connection import UNREACHABLE
from streamer.ledger.limiter import Held, Limiter, SendPermit, Slot, SlotUnavailable, Successes
from streamer.provider.accounts import Accounts
from streamer.worker.account_states import AccountStateCache
from streamer.worker.waiter import Waiter

_ASK_AGAIN_S = 1.0
_LATE_S = 0.003
"""A call that leaves later than this is reported to the limiter, to shift the calls after it."""
_STALE_S = 5.0
"""Successes that could not be published for so long say nothing about the account's health now."""


@dataclass(slots=True)
class _Successes:
    """Successful calls of an account.

    Attributes:
        total: number of successful calls.
        told: how many of them were published to the other workers.
        since: when the first unpublished one was counted; monotonic clock.
    """

    total: int = 0
    told: int = 0
    since: float = 0.0


class Slots:
    """Takes send slots, and records the results of calls.

    Unless they say otherwise, its methods wait for Redis, and raise StoppedError when the worker
    stops.
    """

    def __init__(
        self,
        accounts: Accounts,
        limiter: Limiter,
        account_states: AccountStateCache,
        waiter: Waiter,
    ) -> None:
        self._accounts = accounts
        self._limiter = limiter
        self._account_states = account_states
        self._waiter = waiter
        self._clock = waiter.clock
        self._account_locks: dict[str, Lock] = {}
        self._ask_at: dict[str, float] = {}
        """By account without a free slot, when to ask for one again."""
        self._name = secrets.token_hex(8)
        self._lock = Lock()
        self._successes: dict[str, _Successes] = {}
        for account in accounts.names():  # exported from the start: see `metrics`
            metrics.THROTTLED.labels(account)

    def take(self, account: str, sender: str, ignore_hold: bool = False) -> Slot | Held:
        """Wait for the account's next send slot, or learn that it is held.

        Args:
            sender: the domain that the mails come from, as it alone may be held.
            ignore_hold: take a slot despite a hold, to test whether the hold is over.
        """
        asked_at = self._clock.monotonic()
        while isinstance(slot := self.ask(account, sender, asked_at, ignore_hold), SlotUnavailable):
            self._waiter.sleep(slot.wait_s)
        return slot

    def ask(
        self, account: str, sender: str, asked_at: float, ignore_hold: bool = False
    ) -> Slot | SlotUnavailable | Held:
        """Ask for the account's next send slot, and if one is free wait until it begins.

        A worker takes one slot of an account at a time and waits for it before taking the next,
        so that a killed worker wastes one slot and not one per thread.

        Args:
            sender, ignore_hold: as in `take`.
            asked_at: when the caller first asked; monotonic clock.
        """
        with self._account_locks.setdefault(account, Lock()):
            wait_s = self._ask_at.get(account, 0.0) - self._clock.monotonic()
            if wait_s > 0:
                return SlotUnavailable(wait_s)
            slot = self._ask(account, sender, ignore_hold)
            if isinstance(slot, SlotUnavailable):
                wait_s = min(slot.wait_s, _ASK_AGAIN_S)
                self._ask_at[account] = self._clock.monotonic() + wait_s
                return SlotUnavailable(wait_s)
            metrics.THROTTLED.labels(account).inc(self._clock.monotonic() - asked_at)
            return slot

    def _ask(self, account: str, sender: str, ignore_hold: bool) -> Slot | SlotUnavailable | Held:
        take = partial(self._limiter.take, account, self._rate(account), sender, ignore_hold)
        slot = self._waiter.retry_redis(take)
        if isinstance(slot, Slot):
            self._waiter.sleep(slot.wait_s)
        return slot

    def acquire_permit(self, account: str) -> SendPermit | None:
        """Learn when a call with a slot should leave; None means at once, with no adjustment if
        it is late."""
        return self._waiter.retry_redis(
            partial(self._limiter.acquire_permit, account, self._rate(account))
        )

    def adjust_permit(self, account: str, permit: SendPermit, late_s: float) -> None:
        """Report a call that left much later than permitted, to shift the calls after it."""
        if late_s > _LATE_S:
            with suppress(*UNREACHABLE):  # at worst, one call gets a 429
                self._limiter.adjust_permit(account, permit, late_s)

    def pause(self, account: str, seconds: float) -> None:
        """Let no slot of the account begin for this many seconds."""
        self._waiter.retry_redis(partial(self._limiter.pause, account, seconds))

    def record_success(self, account: str, *, after_failures: bool) -> None:
        """Count a successful call: one with a definite response, even a rejection.

        Args:
            after_failures: whether calls failed before it; then it is published to the other
                workers at once, otherwise by the next `tell`.
        """
        with self._lock:
            successes = self._successes.setdefault(account, _Successes())
            if successes.total == successes.told:
                successes.since = self._clock.monotonic()
            successes.total += 1
        if after_failures:
            tell = partial(self._tell, account, successes, after_failures=True)
            self._waiter.retry_redis(tell)

    def tell(self) -> None:
        """Publish the successful calls to the other workers.

        Call it about twice a second: a success that is published late looks like a call that
        succeeded late.

        Raises:
            redis.exceptions.RedisError: Redis cannot be used.
        """
        with self._lock:
            untold = [(a, each) for a, each in self._successes.items() if each.total > each.told]
        for account, successes in untold:
            with self._lock:
                is_stale = self._clock.monotonic() - successes.since > _STALE_S
                if is_stale:
                    successes.told = successes.total
            if not is_stale:
                self._tell(account, successes, after_failures=False)

    def _tell(self, account: str, successes: _Successes, *, after_failures: bool) -> None:
        with self._lock:
            told = Successes(self._name, successes.told, successes.total)
        self._limiter.record_success(account, told, after_failures=after_failures)
        with self._lock:
            successes.told = max(successes.told, told.total)
            successes.since = self._clock.monotonic()

    def record_failure(self, account: str, batch_id: str, *, counts: bool) -> AccountHealth:
        """Count a failed call for a batch, and return the account's health.

        Args:
            counts: whether the provider may be at fault; if not, nothing is counted, and the
                returned health contains only the number of successes.
        """
        if counts:
            call = secrets.token_hex(8)
            return self._waiter.retry_redis(
                partial(self._limiter.record_failure, account, batch_id, call)
            )
        successes = self._waiter.retry_redis(partial(self._limiter.successes, account))
        return AccountHealth(0, successes, 0.0, 0)

    def note(self, account: str, result: str, message: str) -> None:
        """Store a response that was not `accepted`, for display."""
        with suppress(*UNREACHABLE):  # only for display
            self._limiter.note(account, result, message)

    def _rate(self, account: str) -> float:
        return allowed_rate(
            self._accounts.requests_per_second(account), self._account_states.limit(account)
        )
