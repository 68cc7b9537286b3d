"""Whether what a parked record waits for has come."""

import time
from collections.abc import Mapping

from streamer.ledger import campaigns
from streamer.ledger.connection import Client
from streamer.model.campaign import CampaignState
from streamer.model.parking import ACCOUNT, BATCH, CAMPAIGN, DOMAIN, ORGANIZATION, Scope
from streamer.provider.accounts import Accounts
from streamer.worker.holding import Holding

_FRESH_S = 0.5
_MOST_KNOWN = 10_000


class Scopes:
    """Looks the scopes up: accounts as this worker knows them, campaigns in Redis."""

    def __init__(self, client: Client, accounts: Accounts, holding: Holding) -> None:
        self._client = client
        self._accounts = accounts
        self._holding = holding
        self._campaigns: dict[str, tuple[float, bool]] = {}

    def any_free(self, waiting: Mapping[Scope, int | None]) -> bool:
        """Whether any of these has come.

        Args:
            waiting: when each comes at the latest, in ms since 1970; None if that is open.
        """
        return any(self.is_free(scope, until) for scope, until in waiting.items())

    def is_free(self, scope: Scope, until_ms: int | None) -> bool:
        """Whether what the scope names holds records back no more.

        Raises:
            redis.exceptions.RedisError: Redis cannot be used.
        """
        first, second = scope.parts
        if scope.kind == ACCOUNT:
            return self._holding.scope_of(scope.name, "") is None
        if scope.kind == DOMAIN:
            return self._holding.scope_of(first, second) is None
        if scope.kind == ORGANIZATION:
            return self._accounts.of(scope.name) is not None
        if scope.kind == CAMPAIGN:
            return self._goes_on(scope.name, first, second)
        if scope.kind == BATCH:
            return until_ms is None or time.time() * 1000 >= until_ms
        return True  # what nobody knows holds nothing

    def _goes_on(self, name: str, organization: str, campaign_id: str) -> bool:
        now = time.monotonic()
        known = self._campaigns.get(name)
        if known is None or now - known[0] > _FRESH_S:
            if len(self._campaigns) > _MOST_KNOWN:
                self._campaigns.clear()
            state = campaigns.state(self._client, organization, campaign_id)
            known = self._campaigns[name] = (now, state is not CampaignState.PAUSED)
        return known[1]
