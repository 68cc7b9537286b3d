"""Limits the batches in flight per account and organization. No I/O."""

from collections import Counter
from collections.abc import Callable, Collection


class ConcurrencyLimiter:
    """Shares a worker's places for batches in flight among accounts and organizations.

    At least one place is kept free for each account without batches in flight. One place of each
    account is reserved for an organization that has no batch in flight: if failing batches of one
    organization took all places, no call could show that other organizations succeed.

    Args:
        account_of: returns the account of an organization; None if no account serves it.
        accounts: the number of accounts.
        max_in_flight: the maximum number of batches of one account at a time.
    """

    def __init__(
        self, account_of: Callable[[str], str | None], accounts: int, max_in_flight: int
    ) -> None:
        self._account_of = account_of
        self._accounts = accounts
        self._max_in_flight = max_in_flight

    @property
    def total(self) -> int:
        """The total number of places."""
        return self._max_in_flight + self._accounts + 1

    @property
    def quota(self) -> int:
        """The number of places for an organization whose batches all fail."""
        return max(2, self._max_in_flight // 4)

    def has_capacity(
        self, organization: str, in_flight: Collection[str], max_own: int | None
    ) -> bool:
        """Return whether there is a place for one more batch of the organization.

        Args:
            in_flight: the organizations of the batches in flight.
            max_own: the maximum for this organization if its batches fail; None for no limit.
        """
        own = sum(organization == other for other in in_flight)
        if max_own is not None and own >= max_own:
            return False
        return self._has_capacity(self._account_of(organization), in_flight, is_first=not own)

    def is_saturated(self, account: str | None, in_flight: Collection[str]) -> bool:
        """Return whether there is no place for any organization of the account."""
        return not self._has_capacity(account, in_flight, is_first=True)

    def _has_capacity(
        self, account: str | None, in_flight: Collection[str], *, is_first: bool
    ) -> bool:
        of_accounts = Counter(map(self._account_of, in_flight))
        mine = of_accounts.pop(account, 0)
        # The last places are reserved for accounts without batches, including this one if it has
        # none.
        reserved = max(0, self._accounts - 1 - len(of_accounts)) if mine else 0
        limit = self._max_in_flight + is_first
        return mine < limit and len(in_flight) + reserved < self.total
