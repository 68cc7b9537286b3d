"""What follows an answer to a pinned batch, as a value that the sender carries out. Pure.

What the answer means comes in as a disposition, what else is known of the batch and its account
as counts and times; chance comes in as an argument too.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum, auto

from streamer.flow.failure_stats import (
    MAX_PAUSE_S,
    OUTAGE,
    OUTAGE_FAILURES,
    OUTAGE_PATIENCE_S,
    AccountHealth,
    FailureStats,
    next_try_s,
)
from streamer.flow.retry import Backoff
from streamer.model.disposition import (
    Accepted,
    Conflicting,
    Disposition,
    RateLimited,
    Rejected,
    Retry,
    Suspended,
)
from streamer.model.reasons import Reason

RATE_LIMITED = "rate_limit_exceeded"

# What grows while a provider is down is the distance of the account's calls: see its circuit.
_BACKOFF = Backoff(base_s=0.5, cap_s=5.0)
_BLIND_PAUSE_S = 0.1
"""After an answer that says that calls came too fast, and not when the next may come."""
_MAX_UNREADABLE = 3
_SURE_FAILURES = 3
_LAST_CALLS_S = 600.0
"""Of the safe window, kept for calls after a long `retry-after`."""


@dataclass(frozen=True, slots=True)
class Settle:
    """The answer is definite: nothing more is sent under this key."""

    disposition: Accepted | Rejected | Conflicting


@dataclass(frozen=True, slots=True)
class RetryAfter:
    """Send the same again, so many seconds from now."""

    wait_s: float


@dataclass(frozen=True, slots=True)
class PauseAccount:
    """Give no send slot of the account for so many seconds, then send the same again."""

    wait_s: float


@dataclass(frozen=True, slots=True)
class HoldAccount:
    """Hold the account, or the sender's domain, and defer the batch until that is over.

    Attributes:
        cause: why.
        lasts_s: for how long, if the answer says so.
    """

    cause: Suspended
    lasts_s: float | None = None


@dataclass(frozen=True, slots=True)
class Defer:
    """Defer the batch with its members for so many seconds, so that others pass."""

    wait_s: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """End what the key stands for without knowing what became of it."""

    reason: Reason
    detail: str


@dataclass(frozen=True, slots=True)
class UnexplainedRefusal:
    """Resend refuses what the key stands for, and has nothing of it; nobody can say why, but it may
    be for one of its mails: send it in halves, or blame the mail if it is one.

    Attributes:
        words: the provider's.
    """

    words: str


@dataclass(frozen=True, slots=True)
class Failed:
    """The call failed: what follows depends on the account's health, see `Policy.after_failure`."""

    disposition: Retry


Step = Settle | RetryAfter | PauseAccount | HoldAccount | Defer | GiveUp | UnexplainedRefusal


class Blame(Enum):
    """When what a key stands for is blamed for refusals that nobody can explain."""

    NEVER = auto()
    """A call for it may have been accepted, or there is nothing to tell by."""
    WHEN_DUE = auto()
    """When it would be deferred or given up: the whole batch."""
    AT_ONCE = auto()
    """A part of a batch that is sent in halves."""
    WHEN_SURE = auto()
    """When it is refused time and again while others go through: one mail, after other parts of
    its batch were taken."""


class Tries:
    """The calls under one idempotency key that failed. Times are seconds of one clock.

    Attributes:
        failures: how many failed.
        unreadable: how many of them were accepted in words that cannot be understood.
        words: the provider's, of the last of them.
        alone_in_s: after the last of them; as of `Policy.after_response`.
    """

    def __init__(self, blame: Blame = Blame.NEVER) -> None:
        self.failures = 0
        self.unreadable = 0
        self.words = ""
        self.alone_in_s: float | None = None
        self._blame = blame
        self._refusals = 0
        self._first_at = 0.0
        self._first_successes = 0
        self._last: FailureStats | None = None

    def count(
        self, disposition: Disposition, words: str = "", alone_in_s: float | None = None
    ) -> None:
        """Count an answer, if it is a failure."""
        if isinstance(disposition, Retry):
            self.alone_in_s = alone_in_s
            self.failures += 1
            self.unreadable += disposition.unreadable
            self._refusals += disposition.may_be_content
            self.words = words

    @property
    def only_refusals(self) -> bool:
        """Whether each of them was refused for certain: Resend has nothing of it by these."""
        return self._refusals == self.failures

    def is_blamed(self, stats: FailureStats, set_aside_s: float, *, is_due: bool) -> bool:
        """Whether the key's content is to blame for its failures.

        Args:
            is_due: whether it would be deferred or given up now.
        """
        if not self.failures or not self.only_refusals:
            return False
        match self._blame:
            case Blame.NEVER:
                return False
            case Blame.WHEN_DUE:
                return is_due
            case Blame.AT_ONCE:
                return True
            case Blame.WHEN_SURE:
                # With nobody to tell by it has to last; while others fail too it never shows.
                is_apart = stats.others_failing == 0 and stats.lasting_s >= set_aside_s
                return self.failures >= _SURE_FAILURES and (stats.is_isolated or is_apart)

    def observe(self, health: AccountHealth, age_s: float, now: float) -> FailureStats:
        """What is known of the batch after a failure.

        Args:
            health: of its account, with this failure.
            age_s: since the batch was pinned.
        """
        if self._last is None:
            self._first_at, self._first_successes = now, health.successes
        others = health.successes - self._first_successes
        self._last = FailureStats(now - self._first_at, age_s, others, health.others_failing)
        return self._last

    def stats(self, age_s: float, now: float) -> FailureStats | None:
        """What is known of it by now, of others as of its last failure; None if it had none."""
        if self._last is None:
            return None
        return replace(self._last, lasting_s=now - self._first_at, age_s=age_s)


@dataclass(frozen=True, slots=True)
class Policy:
    """Says what follows an answer.

    Attributes:
        safe_window_s: after its pin, within which a batch may be sent.
        set_aside_s: after how long a batch that fails alone is deferred.
        give_up_s: at which age such a batch is given up.
        has_other_accounts: whether an account that fails could hold up others.
    """

    safe_window_s: float
    set_aside_s: float
    give_up_s: float
    has_other_accounts: bool

    def after_response(
        self, disposition: Disposition, message: str, tries: Tries, alone_in_s: float | None = None
    ) -> Step | Failed:
        """What follows an answer.

        Args:
            message: the provider's.
            tries: of the key, with this answer counted.
            alone_in_s: seconds until no call of an earlier owner's can arrive any more; None if
                none could since this call left.
        """
        match disposition:
            case RateLimited(after_s):
                if after_s > MAX_PAUSE_S:
                    return HoldAccount(Suspended(RATE_LIMITED, message), after_s)
                return PauseAccount(max(after_s, _BLIND_PAUSE_S))
            case Suspended():
                return HoldAccount(disposition)
            case Retry():
                if tries.unreadable >= _MAX_UNREADABLE:
                    detail = "Resend took the batch, but its answer cannot be understood"
                    return GiveUp(Reason.PROVIDER_ERROR, detail)
                return Failed(disposition)
            case Rejected() if alone_in_s is not None:
                # A call of an earlier owner's may arrive after this one and be taken: asked once
                # more, when none can arrive any more, the key answers for that one too.
                return RetryAfter(alone_in_s)
            case _:
                return Settle(disposition)

    def after_failure(
        self,
        disposition: Retry,
        tries: Tries,
        health: AccountHealth,
        stats: FailureStats,
        draw: Callable[[], float],
        *,
        under_backpressure: bool,
    ) -> RetryAfter | HoldAccount | Defer | GiveUp | UnexplainedRefusal:
        """What follows a call that failed.

        Args:
            tries: of the key, with this failure counted.
            health: of the batch's account.
            stats: what is known of the batch.
            draw: gives a random number in [0, 1).
            under_backpressure: whether much waits behind batches that keep failing: one that
                fails alone is deferred sooner.
        """
        cause = f"{disposition.reason}: {tries.words}"
        if self._holds_others_up(health):
            return HoldAccount(Suspended(OUTAGE, cause))
        gives_up = stats.should_give_up(self.set_aside_s, self.give_up_s)
        sets_aside = stats.should_defer(self.set_aside_s, under_backpressure)
        wait_s = _BACKOFF.delay(tries.failures, draw, disposition.retry_after_s)
        if tries.is_blamed(stats, self.set_aside_s, is_due=gives_up or sets_aside):
            if tries.alone_in_s is not None:
                return RetryAfter(max(wait_s, tries.alone_in_s))
            return UnexplainedRefusal(tries.words)
        if gives_up:
            return GiveUp(Reason.PROVIDER_ERROR, cause)
        if disposition.retry_after_s > MAX_PAUSE_S:
            window_s = self.safe_window_s - stats.age_s - _LAST_CALLS_S
            return Defer(min(disposition.retry_after_s, max(window_s, MAX_PAUSE_S)))
        if sets_aside:
            return self._defer(stats)
        return RetryAfter(wait_s)

    def while_waiting(
        self, tries: Tries, stats: FailureStats | None, *, under_backpressure: bool
    ) -> Defer | UnexplainedRefusal | None:
        """What follows while the batch waits for its next call, or for a slot; None: wait on.

        Calls are far apart while an account's circuit is open, and it can be the very batch that
        keeps others from calling.

        Args:
            tries: of the key.
            stats: what is known of the batch; None if it had none.
        """
        if (
            stats is None
            or not stats.is_isolated
            or not stats.should_defer(self.set_aside_s, under_backpressure)
        ):
            return None
        if tries.is_blamed(stats, self.set_aside_s, is_due=True):
            return UnexplainedRefusal(tries.words) if tries.alone_in_s is None else None
        # One that is old enough ends with its next failure; deferred it would come back for ever.
        return (
            None if stats.should_give_up(self.set_aside_s, self.give_up_s) else self._defer(stats)
        )

    def _holds_others_up(self, health: AccountHealth) -> bool:
        """Whether every call of the account fails, while other accounts may do fine."""
        return (
            self.has_other_accounts
            and health.failures >= OUTAGE_FAILURES
            and health.others_failing > 0
            and health.failing_s >= OUTAGE_PATIENCE_S
        )

    def _defer(self, stats: FailureStats) -> Defer:
        return Defer(next_try_s(stats.age_s, self.set_aside_s, self.give_up_s))
