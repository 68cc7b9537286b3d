"""This worker's cached view of its accounts' holds and rate limits."""

import logging
from collections.abc import Iterator
from datetime import datetime
from threading import Lock

from streamer import metrics
from streamer.flow.failure_stats import OUTAGE, OUTAGE_PROBE_S, hold_until
from streamer.flow.rate import allowed_rate
from streamer.ledger.connection import UNREACHABLE
from streamer.ledger.holds import AccountState, BatchRef, By, DrawnBy, Hold, Holds
from streamer.ledger.limiter import Limiter
from streamer.model.disposition import Suspended
from streamer.model.parking import Scope
from streamer.provider.accounts import Accounts

logger = logging.getLogger(__name__)

_NOTHING = AccountState({}, None, 0)


def as_hold(
    disposition: Suspended,
    ref: BatchRef,
    now: datetime,
    status: int | None = None,
    until: datetime | None = None,
) -> Hold:
    """Build the hold that a response imposes.

    Args:
        ref: the batch that drew the response.
        now: when the hold starts.
        status: HTTP status of the response, if known.
        until: when the hold ends, if the response says so.
    """
    return Hold(
        by=By.ANSWER,
        reason=disposition.reason,
        detail=disposition.detail,
        since=now,
        until=until or hold_until(disposition.reason, now),
        drawn_by=DrawnBy(organization_id=ref.organization, batch_id=ref.batch_id, status=status),
    )


class AccountStateCache:
    """Caches the accounts' states, about half a second old. Thread-safe.

    The limiter refuses send slots to a held account whatever this cache says. The cache saves
    rendering mails that could not be sent, and feeds the metrics.
    """

    def __init__(self, holds: Holds, limiter: Limiter, accounts: Accounts, probe_s: float) -> None:
        self._holds = holds
        self._limiter = limiter
        self._accounts = accounts
        self._probe_s = probe_s
        self._lock = Lock()
        self._states: dict[str, AccountState] = dict.fromkeys(accounts.names(), _NOTHING)
        self._shown: set[tuple[str, str]] = set()

    def scope_of(self, account: str, domain: str) -> Scope | None:
        """The hold that mails from a sender's domain wait for at an account, or None."""
        holds = self._state(account).holds
        if None in holds:
            return Scope.of_hold(account, None)
        return Scope.of_hold(account, domain) if domain in holds else None

    def limit(self, account: str) -> int | None:
        """The limit in calls per second that the provider last advertised, or None."""
        return self._state(account).limit

    def learn_limit(self, account: str, limit: int) -> None:
        """Store the rate limit that a response advertised."""
        state = self._state(account)
        if state.limit == limit:
            return
        self._set(account, state._replace(limit=limit))
        try:
            self._limiter.set_advertised_limit(account, limit)
        except UNREACHABLE:
            self._set(account, state)  # the next response advertises it again

    def put(
        self, account: str, sender: str, hold: Hold, batch: BatchRef | None, *, sender_only: bool
    ) -> Scope:
        """Hold an account, or one sender's domain, after the response to a batch.

        Args:
            sender: the domain that the batch's mails come from.
            batch: the batch, if it can be used to test the hold.
            sender_only: whether the response concerns only that domain.

        Returns:
            The scope that the batch's mails now wait for.

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
                "account held, parking its records",
                extra={
                    "account": account,
                    "domain": domain or "all",
                    "reason": hold.reason,
                    "detail": hold.detail,
                    "until": hold.until.isoformat() if hold.until else "unknown",
                },
            )
        return Scope.of_hold(account, domain)

    def refresh(self) -> None:
        """Reload the states from the ledger, and update the metrics of holds and allowed rates.

        Raises:
            redis.exceptions.RedisError: Redis cannot be used.
        """
        with self._lock:
            names = list(self._states)
        states = self._holds.read(names)
        with self._lock:
            self._states.update(states)
        for account, state in states.items():
            allowed = allowed_rate(self._accounts.requests_per_second(account), state.limit)
            metrics.ALLOWED_CALLS.labels(account).set(allowed)
            for domain, hold in state.holds.items():
                key = (account, hold.reason)
                if key not in self._shown:
                    self._shown.add(key)
                    metrics.ACCOUNT_HELD.labels(*key).set(1)
                    logger.info(
                        "account held", extra={"account": account, "domain": domain or "all",
                                       "reason": hold.reason},
                    )  # fmt: skip
        now_held = {(a, h.reason) for a, state in states.items() for h in state.holds.values()}
        for account, reason in self._shown - now_held:
            metrics.ACCOUNT_HELD.labels(account, reason).set(0)
            logger.info("hold ended", extra={"account": account, "reason": reason})
        self._shown &= now_held

    def held(self) -> list[str]:
        """Describe each current hold in a few words."""
        return [
            f"{account}{f' ({domain})' if domain else ''}: {hold.reason}"
            for account, state in self._snapshot().items()
            for domain, hold in state.holds.items()
        ]

    def holds_sender(self, account: str, sender: str) -> bool:
        """Whether there is a hold on this sender's domain alone."""
        return sender in self._state(account).holds

    def due(self) -> Iterator[tuple[str, str | None, Hold, BatchRef | None]]:
        """Yield the holds that this worker must test now: account, sender's domain, hold, and
        the batch to test it with, if there is one.

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
        """Release a hold that a test found to be over.

        Raises:
            redis.exceptions.RedisError: Redis cannot be used.
        """
        if self._holds.release(account, domain, By.ANSWER, hold):
            state = self._state(account)
            left = {field: held for field, held in state.holds.items() if field != domain}
            self._set(account, state._replace(holds=left))

    def next_batch(self, account: str, domain: str | None, instead_of: BatchRef) -> BatchRef | None:
        """Stop testing a hold with this batch; return the next one to test with, or None.

        Raises:
            redis.exceptions.RedisError: Redis cannot be used.
        """
        self._holds.forget(account, domain, instead_of)
        return self._holds.next_batch(account, domain)

    def forget(self, account: str, domain: str | None, batch: BatchRef) -> None:
        """Stop testing a hold with this batch.

        Raises:
            redis.exceptions.RedisError: Redis cannot be used.
        """
        self._holds.forget(account, domain, batch)

    def _probe_interval(self, hold: Hold) -> float:
        """Seconds between tests of a hold."""
        return min(self._probe_s, OUTAGE_PROBE_S) if hold.reason == OUTAGE else self._probe_s

    def _state(self, account: str) -> AccountState:
        with self._lock:
            # A pinned batch may name an account that was removed from the settings.
            return self._states.setdefault(account, _NOTHING)

    def _set(self, account: str, state: AccountState) -> None:
        with self._lock:
            self._states[account] = state

    def _snapshot(self) -> dict[str, AccountState]:
        with self._lock:
            return dict(self._states)
