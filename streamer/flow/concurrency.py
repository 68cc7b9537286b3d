"""Which organization may have one more batch under way. Pure."""

from collections import Counter
from collections.abc import Callable, Collection


class ConcurrencyLimiter:
    """The places of a worker's batches, shared by accounts and organizations.

    No account takes so many that another has none, and one place of each account is for an
    organization that has no batch under way: were all taken by batches of one that fail, nobody
    could show that others go through.

    Args:
        account_of: the account of an organization; None if no account serves it.
        accounts: how many there are.
        max_in_flight: batches of one account at a time.
    """

    def __init__(
        self, account_of: Callable[[str], str | None], accounts: int, max_in_flight: int
    ) -> None:
        self._account_of = account_of
        self._accounts = accounts
        self._max_in_flight = max_in_flight

    @property
    def total(self) -> int:
        """How many places there are."""
        return self._max_in_flight + self._accounts + 1

    @property
    def quota(self) -> int:
        """How many of them an organization may have whose batches all fail."""
        return max(2, self._max_in_flight // 4)

    def has_capacity(
        self, organization: str, in_flight: Collection[str], max_own: int | None
    ) -> bool:
        """Whether there is a place for one more batch of the organization.

        Args:
            in_flight: the organizations of the batches under way.
            max_own: how many batches the organization may have, if it is in trouble.
        """
        own = sum(organization == other for other in in_flight)
        if max_own is not None and own >= max_own:
            return False
        return self._has_capacity(self._account_of(organization), in_flight, is_first=not own)

    def is_saturated(self, account: str | None, in_flight: Collection[str]) -> bool:
        """Whether there is no place for any organization of the account."""
        return not self._has_capacity(account, in_flight, is_first=True)

    def _has_capacity(
        self, account: str | None, in_flight: Collection[str], *, is_first: bool
    ) -> bool:
        of_accounts = Counter(map(self._account_of, in_flight))
        mine = of_accounts.pop(account, 0)
        # The last ones are for accounts that have none; for its own, if this one has none.
        reserved = max(0, self._accounts - 1 - len(of_accounts)) if mine else 0
        limit = self._max_in_flight + is_first
        return mine < limit and len(in_flight) + reserved < self.total
