"""What this worker knows of its accounts' holds and limits, and testing whether a hold is over."""

import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from threading import Lock

from streamer import metrics
from streamer.flow.failure_stats import OUTAGE, OUTAGE_PROBE_S, hold_until
from streamer.ledger.connection import UNREACHABLE
from streamer.ledger.holds import AccountState, BatchRef, By, DrawnBy, Hold, Holds
from streamer.ledger.limiter import Limiter
from streamer.model.disposition import Suspended
from streamer.model.parking import Scope
from streamer.provider.accounts import Accounts

logger = logging.getLogger(__name__)

_NOTHING = AccountState({}, None, 0)


def as_hold(
    disposition: Suspended, ref: BatchRef, status: int | None = None, until: datetime | None = None
) -> Hold:
    """The hold that an answer puts now.

    Args:
        ref: the batch that drew it.
        status: of the answer, if that is known.
        until: when it ends, if the answer says so.
    """
    now = datetime.now(UTC)
    return Hold(
        by=By.ANSWER,
        reason=disposition.reason,
        detail=disposition.detail,
        since=now,
        until=until or hold_until(disposition.reason, now),
        drawn_by=DrawnBy(organization_id=ref.organization, batch_id=ref.batch_id, status=status),
    )


class AccountStateCache:
    """The accounts' states as they were half a second ago; may be asked from any thread.

    A send slot is not given to a held account, whatever this knows; this is for the records
    that need not be rendered, and to show.
    """

    def __init__(self, holds: Holds, limiter: Limiter, accounts: Accounts, probe_s: float) -> None:
        self._holds = holds
        self._limiter = limiter
        self._probe_s = probe_s
        self._lock = Lock()
        self._states: dict[str, AccountState] = dict.fromkeys(accounts.names(), _NOTHING)
        self._shown: set[tuple[str, str]] = set()

    def scope_of(self, account: str, domain: str) -> Scope | None:
        """What the mails of a sender's domain wait for at an account; None if for nothing."""
        holds = self._state(account).holds
        if None in holds:
            return Scope.of_hold(account, None)
        return Scope.of_hold(account, domain) if domain in holds else None

    def limit(self, account: str) -> int | None:
        """Calls a second that the provider's answers named last; None if they did not."""
        return self._state(account).limit

    def learn_limit(self, account: str, limit: int) -> None:
        """An answer named this limit."""
        state = self._state(account)
        if state.limit == limit:
            return
        self._set(account, state._replace(limit=limit))
        try:
            self._limiter.set_advertised_limit(account, limit)
        except UNREACHABLE:
            self._set(account, state)  # the next answer says it again

    def put(
        self, account: str, sender: str, hold: Hold, batch: BatchRef | None, *, sender_only: bool
    ) -> Scope:
        """Hold an account, or a sender's domain, after an answer to a batch; returns what its
        mails wait for now.

        Args:
            sender: the domain that the batch's mails come from.
            batch: the batch, if it can test the hold.
            sender_only: whether the answer concerns that domain alone.

        Raises:
            redis.exceptions.RedisError: Redis cannot be used.
        """
        probe_s = self._probe_interval(hold)
        if hold.until is not None:
            probe_s = min(probe_s, (hold.until - hold.since).total_seconds())
        domain, is_new = self._holds.put(
            account, sender if sender_only else None, hold, probe_s, batch, sender
        )
        holds = self._state(account).holds
        if is_new or domain not in holds:
            self._set(account, self._state(account)._replace(holds={**holds, domain: hold}))
        if is_new:
            logger.error(
                "the account is held: its records wait, nobody is failed for it",
                extra={
                    "account": account,
                    "domain": domain or "all",
                    "reason": hold.reason,
                    "words": hold.detail,
                    "until": hold.until.isoformat() if hold.until else "unknown",
                },
            )
        return Scope.of_hold(account, domain)

    def refresh(self) -> None:
        """Read the ledger again, and show what is held.

        Raises:
            redis.exceptions.RedisError: Redis cannot be used.
        """
        with self._lock:
            names = list(self._states)
        states = self._holds.read(names)
        with self._lock:
            self._states.update(states)
        for account, state in states.items():
            for domain, hold in state.holds.items():
                key = (account, hold.reason)
                if key not in self._shown:
                    self._shown.add(key)
                    metrics.ACCOUNT_HELD.labels(*key).set(1)
                    logger.info(
                        "held", extra={"account": account, "domain": domain or "all",
                                       "reason": hold.reason},
                    )  # fmt: skip
        now_held = {(a, h.reason) for a, state in states.items() for h in state.holds.values()}
        for account, reason in self._shown - now_held:
            metrics.ACCOUNT_HELD.labels(account, reason).set(0)
            logger.info("the hold is over", extra={"account": account, "reason": reason})
        self._shown &= now_held

    def holds_sender(self, account: str, sender: str) -> bool:
        """Whether a sender's domain is held by itself."""
        return sender in self._state(account).holds

    def due(self) -> Iterator[tuple[str, str | None, Hold, BatchRef | None]]:
        """The holds that this worker has to test now, by account and sender's domain, each with
        a batch, if there is one.

        Raises:
            redis.exceptions.RedisError: Redis cannot be used.
        """
        for account, state in self._snapshot().items():
            for domain, hold in state.holds.items():
                if hold.by is By.OPERATOR:
                    continue
                turn = self._holds.due(account, domain, self._probe_interval(hold))
                if turn is not None:
                    yield account, domain, hold, turn.batch

    def end_hold(self, account: str, domain: str | None, hold: Hold) -> None:
        """A hold was tested, and is over.

        Raises:
            redis.exceptions.RedisError: Redis cannot be used.
        """
        if self._holds.release(account, domain, By.ANSWER, hold):
            state = self._state(account)
            left = {field: held for field, held in state.holds.items() if field != domain}
            self._set(account, state._replace(holds=left))

    def next_batch(self, account: str, domain: str | None, instead_of: BatchRef) -> BatchRef | None:
        """Test a hold with another batch, and never again with this one; None if it has no other.

        Raises:
            redis.exceptions.RedisError: Redis cannot be used.
        """
        self._holds.forget(account, domain, instead_of)
        return self._holds.next_batch(account, domain)

    def forget(self, account: str, domain: str | None, batch: BatchRef) -> None:
        """Test a hold with this batch no more.

        Raises:
            redis.exceptions.RedisError: Redis cannot be used.
        """
        self._holds.forget(account, domain, batch)

    def _probe_interval(self, hold: Hold) -> float:
        """Seconds between two tests of a hold."""
        return min(self._probe_s, OUTAGE_PROBE_S) if hold.reason == OUTAGE else self._probe_s

    def _state(self, account: str) -> AccountState:
        with self._lock:
            # An account that the settings do not have any more can still be a batch's.
            return self._states.setdefault(account, _NOTHING)

    def _set(self, account: str, state: AccountState) -> None:
        with self._lock:
            self._states[account] = state

    def _snapshot(self) -> dict[str, AccountState]:
        with self._lock:
            return dict(self._states)
