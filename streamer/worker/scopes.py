"""Checks whether parked records may return."""

import time
from collections.abc import Collection

from streamer.ledger import campaigns
from streamer.ledger.connection import Client
from streamer.model.campaign import CampaignState
from streamer.model.parking import ACCOUNT, BATCH, CAMPAIGN, DOMAIN, ORGANIZATION
from streamer.model.record import Parked
from streamer.provider.accounts import Accounts
from streamer.worker.account_states import AccountStateCache


class ParkScopes:
    """Checks scopes: accounts in this worker's cache, campaigns in Redis."""

    def __init__(
        self, client: Client, accounts: Accounts, account_states: AccountStateCache
    ) -> None:
        self._client = client
        self._accounts = accounts
        self._account_states = account_states

    def released(self, waits: Collection[Parked]) -> set[Parked]:
        """Those of the waits that are over, so that their records may return.

        Raises:
            redis.exceptions.RedisError: Redis cannot be used.
        """
        of_campaigns = [wait for wait in waits if wait.scope.kind == CAMPAIGN]
        others = [wait for wait in waits if wait.scope.kind != CAMPAIGN]
        states = campaigns.states(self._client, [wait.scope.parts for wait in of_campaigns])
        released = {
            wait
            for wait, state in zip(of_campaigns, states, strict=True)
            if state is not CampaignState.PAUSED
        }
        return released | {wait for wait in others if self._is_released(wait)}

    def _is_released(self, wait: Parked) -> bool:
        scope = wait.scope
        if scope.kind == ACCOUNT:
            return self._account_states.scope_of(scope.name, "") is None
        if scope.kind == DOMAIN:
            return self._account_states.scope_of(*scope.parts) is None
        if scope.kind == ORGANIZATION:
            return self._accounts.of(scope.name) is not None
        if scope.kind == BATCH:
            return wait.until_ms is None or time.time() * 1000 >= wait.until_ms
        return True  # an unknown kind of scope holds nothing back
