"""What follows an answer to a pinned batch, as a value that the sender carries out. Pure.

What the answer means comes in as a disposition, what else is known of the batch and its account
as counts and times; chance comes in as an argument too.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from streamer.flow.retry import Backoff
from streamer.flow.verdicts import (
    LONGEST_PAUSE_S,
    OUTAGE,
    OUTAGE_FAILURES,
    OUTAGE_PATIENCE_S,
    Health,
    Trouble,
    next_try_s,
)
from streamer.model.disposition import (
    Again,
    Conflicting,
    OnHold,
    Refused,
    Taken,
    Throttled,
    Verdict,
)
from streamer.model.reasons import Reason

RATE_LIMITED = "rate_limit_exceeded"

# What grows while a provider is down is the distance of the account's calls: see its circuit.
_BACKOFF = Backoff(base_s=0.5, cap_s=5.0)
_BLIND_PAUSE_S = 0.1
"""After an answer that says that calls came too fast, and not when the next may come."""
_MOST_UNREADABLE = 3


@dataclass(frozen=True, slots=True)
class Settle:
    """The answer is definite: nothing more is sent under this key."""

    disposition: Taken | Refused | Conflicting


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

    cause: OnHold
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
class Failed:
    """The call failed: what follows depends on the account's health, see `Policy.after_failure`."""

    disposition: Again


Step = Settle | RetryAfter | PauseAccount | HoldAccount | Defer | GiveUp


class Tries:
    """The calls under one idempotency key that failed. Times are seconds of one clock.

    Attributes:
        failures: how many failed.
        unreadable: how many of them were accepted in words that cannot be understood.
    """

    def __init__(self) -> None:
        self.failures = 0
        self.unreadable = 0
        self._first_at = 0.0
        self._first_successes = 0
        self._last: Trouble | None = None

    def count(self, disposition: Verdict) -> None:
        """Count an answer, if it is a failure."""
        if isinstance(disposition, Again):
            self.failures += 1
            self.unreadable += disposition.unreadable

    def observe(self, health: Health, age_s: float, now: float) -> Trouble:
        """What is known of the batch after a failure.

        Args:
            health: of its account, with this failure.
            age_s: since the batch was pinned.
        """
        if self._last is None:
            self._first_at, self._first_successes = now, health.successes
        others = health.successes - self._first_successes
        self._last = Trouble(now - self._first_at, age_s, others, health.others_failing)
        return self._last

    def trouble(self, age_s: float, now: float) -> Trouble | None:
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

    def after_answer(
        self, disposition: Verdict, words: str, tries: Tries, alone_in_s: float | None = None
    ) -> Step | Failed:
        """What follows an answer.

        Args:
            words: the provider's.
            tries: of the key, with this answer counted.
            alone_in_s: seconds until no call of an earlier owner's can arrive any more; None if
                none could since this call left.
        """
        match disposition:
            case Throttled(after_s):
                if after_s > LONGEST_PAUSE_S:
                    return HoldAccount(OnHold(RATE_LIMITED, words), after_s)
                return PauseAccount(max(after_s, _BLIND_PAUSE_S))
            case OnHold():
                return HoldAccount(disposition)
            case Again():
                if tries.unreadable >= _MOST_UNREADABLE:
                    detail = "Resend took the batch, but its answer cannot be understood"
                    return GiveUp(Reason.PROVIDER_ERROR, detail)
                return Failed(disposition)
            case Refused() if alone_in_s is not None:
                # A call of an earlier owner's may arrive after this one and be taken: asked once
                # more, when none can arrive any more, the key answers for that one too.
                return RetryAfter(alone_in_s)
            case _:
                return Settle(disposition)

    def after_failure(
        self,
        disposition: Again,
        words: str,
        failures: int,
        health: Health,
        trouble: Trouble,
        draw: Callable[[], float],
        *,
        under_backpressure: bool,
    ) -> RetryAfter | HoldAccount | Defer | GiveUp:
        """What follows a call that failed.

        Args:
            words: the provider's.
            failures: of the key.
            health: of the batch's account.
            trouble: what is known of the batch.
            draw: gives a random number in [0, 1).
            under_backpressure: whether much waits behind batches that keep failing: one that
                fails alone is deferred sooner.
        """
        cause = f"{disposition.why}: {words}"
        if self._holds_others_up(health):
            return HoldAccount(OnHold(OUTAGE, cause))
        if trouble.gives_up(self.set_aside_s, self.give_up_s):
            return GiveUp(Reason.PROVIDER_ERROR, cause)
        if trouble.sets_aside(self.set_aside_s, under_backpressure):
            return self._defer(trouble)
        return RetryAfter(_BACKOFF.delay(failures, draw, disposition.after_s))

    def while_waiting(self, trouble: Trouble | None, *, under_backpressure: bool) -> Defer | None:
        """What follows while there is no send slot; None: wait on.

        Calls are far apart while an account's circuit is open, and it can be the very batch that
        keeps others from calling.

        Args:
            trouble: what is known of the batch; None if it had none.
        """
        if (
            trouble is not None
            and trouble.is_its_own
            and trouble.sets_aside(self.set_aside_s, under_backpressure)
        ):
            return self._defer(trouble)
        return None

    def _holds_others_up(self, health: Health) -> bool:
        """Whether every call of the account fails, while other accounts may do fine."""
        return (
            self.has_other_accounts
            and health.failures >= OUTAGE_FAILURES
            and health.others_failing > 0
            and health.failing_s >= OUTAGE_PATIENCE_S
        )

    def _defer(self, trouble: Trouble) -> Defer:
        return Defer(next_try_s(trouble.age_s, self.set_aside_s, self.give_up_s))
