"""The accounts' limits and holds in memory and in Redis, behind one face."""

import secrets
from abc import ABC, abstractmethod
from typing import cast

from streamer.ledger import keys, responses
from streamer.ledger.connection import Client
from streamer.ledger.epoch import Epoch
from streamer.ledger.holds import Holds
from streamer.ledger.limiter import Limiter
from tests.kit.fakes.accounts import AccountStore, FakeHolds, FakeLimiter
from tests.kit.fakes.clock import FakeClock


class AccountsUnderTest(ABC):
    """A limiter, the holds beside it, and an account that they do not know yet."""

    def __init__(self, limiter: Limiter, holds: Holds) -> None:
        self.limiter = limiter
        self.holds = holds
        self.account = f"account-{secrets.token_hex(4)}"

    @abstractmethod
    def advance(self, seconds: float) -> None:
        """Let time pass for the account."""

    @abstractmethod
    def notes(self) -> dict[str, str]:
        """The responses that were noted of the account."""


class AccountsInMemory(AccountsUnderTest):
    def __init__(self) -> None:
        self.clock = FakeClock()
        store = AccountStore(self.clock)
        self._limiter = FakeLimiter(store)
        super().__init__(self._limiter, FakeHolds(store))

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def notes(self) -> dict[str, str]:
        return self._limiter.notes(self.account)


class AccountsInRedis(AccountsUnderTest):
    def __init__(self, client: Client) -> None:
        self._client = client
        super().__init__(Limiter(client, Epoch.establish(client, ())), Holds(client))

    def advance(self, seconds: float) -> None:
        """Move all times that Redis keeps of the account into the past."""
        us = round(seconds * 1_000_000)
        if self._client.exists(keys.account_limiter(self.account)):
            self._client.decrby(keys.account_limiter(self.account), us)
        for field in ("since", "probe_at"):
            if self._client.hexists(keys.account_health(self.account), field):
                self._client.hincrby(keys.account_health(self.account), field, -us)
        permits = keys.account_permits(self.account)
        for call in cast(list[bytes], self._client.zrange(permits, 0, -1)):
            self._client.zincrby(permits, -us, call)
        tests = keys.account_probes(self.account)
        for hold in cast(list[bytes], self._client.hkeys(tests)):
            self._client.hincrby(tests, hold.decode(), -(us // 1000))

    def notes(self) -> dict[str, str]:
        found = responses.read(self._client, [self.account])[self.account]
        return {each.result: each.message for each in found}
