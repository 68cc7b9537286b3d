"""Decides what to do after a response to a pinned batch; the sender executes the decision. No I/O.

The meaning of the response is given as a disposition, the state of the batch and its account as
counts and times. Randomness is an argument too.
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

# During an outage the circuit, not this backoff, increases the time between an account's calls.
_BACKOFF = Backoff(base_s=0.5, cap_s=5.0)
_BLIND_PAUSE_S = 0.1
"""The pause after a rate-limit response that does not say when to retry."""
_MAX_UNREADABLE = 3
_SURE_FAILURES = 3
_LAST_CALLS_S = 600.0
"""The part of the safe window reserved for calls after a long `retry-after`."""


@dataclass(frozen=True, slots=True)
class Settle:
    """The response is final: send nothing more under this key."""

    disposition: Accepted | Rejected | Conflicting


@dataclass(frozen=True, slots=True)
class RetryAfter:
    """Send the same again after `wait_s` seconds."""

    wait_s: float


@dataclass(frozen=True, slots=True)
class PauseAccount:
    """Stop handing out the account's slots for `wait_s` seconds, then send the same again."""

    wait_s: float


@dataclass(frozen=True, slots=True)
class HoldAccount:
    """Hold the account or the sender's domain, and defer the batch until the hold is over.

    Attributes:
        cause: the reason for the hold.
        lasts_s: seconds until it is over, if the response says so.
    """

    cause: Suspended
    lasts_s: float | None = None


@dataclass(frozen=True, slots=True)
class Defer:
    """Defer the batch with its members for `wait_s` seconds, so that others can pass."""

    wait_s: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Resolve the mails under the key as failed, without knowing whether they were accepted."""

    reason: Reason
    detail: str


@dataclass(frozen=True, slots=True)
class UnexplainedRefusal:
    """Resend rejected everything under the key for an unknown reason, possibly one of the mails.

    Resend has nothing of it: send it in halves, or blame the mail if it is a single one.

    Attributes:
        message: the provider's message.
    """

    message: str


@dataclass(frozen=True, slots=True)
class Failed:
    """The call failed; the next step depends on the account's health (`Policy.after_failure`)."""

    disposition: Retry


Step = Settle | RetryAfter | PauseAccount | HoldAccount | Defer | GiveUp | UnexplainedRefusal


class Blame(Enum):
    """When the content sent under a key is blamed for unexplained rejections."""

    NEVER = auto()
    """A call for it may have been accepted, or there is no evidence."""
    WHEN_DUE = auto()
    """A whole batch: when it would be deferred or given up."""
    AT_ONCE = auto()
    """A part of a batch that is sent in halves: immediately."""
    WHEN_SURE = auto()
    """A single mail, after other parts of its batch were accepted: when it is rejected repeatedly
    while others succeed."""


class Tries:
    """The failed calls under one idempotency key. Times are seconds of the same clock.

    Attributes:
        failures: the number of failed calls.
        unreadable: how many of them were accepted, but with a response that cannot be parsed.
        message: the provider's message for the last of them.
        alone_in_s: as in `Policy.after_response`, for the last of them.
    """

    def __init__(self, blame: Blame = Blame.NEVER) -> None:
        self.failures = 0
        self.unreadable = 0
        self.message = ""
        self.alone_in_s: float | None = None
        self._blame = blame
        self._refusals = 0
        self._first_at = 0.0
        self._first_successes = 0
        self._last: FailureStats | None = None

    def count(
        self, disposition: Disposition, message: str = "", alone_in_s: float | None = None
    ) -> None:
        """Count a response, if it is a failure."""
        if isinstance(disposition, Retry):
            self.alone_in_s = alone_in_s
            self.failures += 1
            self.unreadable += disposition.unreadable
            self._refusals += disposition.may_be_content
            self.message = message

    @property
    def only_refusals(self) -> bool:
        """Whether each of them was rejected for certain: Resend accepted nothing through them."""
        return self._refusals == self.failures

    def is_blamed(self, stats: FailureStats, set_aside_s: float, *, is_due: bool) -> bool:
        """Return whether the key's content is to blame for its failures.

        Args:
            is_due: whether it would otherwise be deferred or given up now.
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
                # Without other calls to compare with, the failures must last; while others fail
                # too, the mail is never blamed.
                is_apart = stats.others_failing == 0 and stats.lasting_s >= set_aside_s
                return self.failures >= _SURE_FAILURES and (stats.is_isolated or is_apart)

    def observe(self, health: AccountHealth, age_s: float, now: float) -> FailureStats:
        """Update and return the batch's failure stats after a failure.

        Args:
            health: the account's health, including this failure.
            age_s: seconds since the batch was pinned.
        """
        if self._last is None:
            self._first_at, self._first_successes = now, health.successes
        others = health.successes - self._first_successes
        self._last = FailureStats(now - self._first_at, age_s, others, health.others_failing)
        return self._last

    def stats(self, age_s: float, now: float) -> FailureStats | None:
        """Return the current stats, with others as of the last failure; None without failures."""
        if self._last is None:
            return None
        return replace(self._last, lasting_s=now - self._first_at, age_s=age_s)


@dataclass(frozen=True, slots=True)
class Policy:
    """Decides the next step after a response.

    Attributes:
        safe_window_s: seconds after its pin within which a batch may be sent.
        set_aside_s: seconds after which an isolated failing batch is deferred.
        give_up_s: the age at which such a batch is given up.
        has_other_accounts: whether there are other accounts that a failing one could delay.
    """

    safe_window_s: float
    set_aside_s: float
    give_up_s: float
    has_other_accounts: bool

    def after_response(
        self, disposition: Disposition, message: str, tries: Tries, alone_in_s: float | None = None
    ) -> Step | Failed:
        """Return the next step after a response.

        Args:
            message: the provider's message.
            tries: the failed calls under the key, including this response.
            alone_in_s: seconds until no call by an earlier owner can arrive any more; None if none
                could arrive since this call left.
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
                    detail = "Resend accepted the batch, but its response cannot be parsed"
                    return GiveUp(Reason.PROVIDER_ERROR, detail)
                return Failed(disposition)
            case Rejected() if alone_in_s is not None:
                # A call by an earlier owner may arrive after this one and be accepted. Calling
                # again when none can arrive any more returns the key's response to that call too.
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
        """Return the next step after a failed call.

        Args:
            tries: the failed calls under the key, including this one.
            health: the health of the batch's account.
            stats: the batch's failure stats.
            draw: returns a random number in [0, 1).
            under_backpressure: whether many records are blocked behind failing batches; isolated
                failing batches are then deferred sooner.
        """
        cause = f"{disposition.reason}: {tries.message}"
        if self._holds_others_up(health):
            return HoldAccount(Suspended(OUTAGE, cause))
        gives_up = stats.should_give_up(self.set_aside_s, self.give_up_s)
        sets_aside = stats.should_defer(self.set_aside_s, under_backpressure)
        wait_s = _BACKOFF.delay(tries.failures, draw, disposition.retry_after_s)
        if tries.is_blamed(stats, self.set_aside_s, is_due=gives_up or sets_aside):
            if tries.alone_in_s is not None:
                return RetryAfter(max(wait_s, tries.alone_in_s))
            return UnexplainedRefusal(tries.message)
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
        """Return the next step while the batch waits for its next call or a slot; None: wait on.

        While an account's circuit is open, calls are far apart, and this batch may be the one that
        prevents other calls.

        Args:
            tries: the failed calls under the key.
            stats: the batch's failure stats; None without failures.
        """
        if (
            stats is None
            or not stats.is_isolated
            or not stats.should_defer(self.set_aside_s, under_backpressure)
        ):
            return None
        if tries.is_blamed(stats, self.set_aside_s, is_due=True):
            return UnexplainedRefusal(tries.message) if tries.alone_in_s is None else None
        # One that is old enough ends with its next failure; deferred it would come back for ever.
        return (
            None if stats.should_give_up(self.set_aside_s, self.give_up_s) else self._defer(stats)
        )

    def _holds_others_up(self, health: AccountHealth) -> bool:
        """Return whether all calls of the account fail and could delay other accounts."""
        return (
            self.has_other_accounts
            and health.failures >= OUTAGE_FAILURES
            and health.others_failing > 0
            and health.failing_s >= OUTAGE_PATIENCE_S
        )

    def _defer(self, stats: FailureStats) -> Defer:
        return Defer(next_try_s(stats.age_s, self.set_aside_s, self.give_up_s))
