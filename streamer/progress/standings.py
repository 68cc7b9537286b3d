"""The states of campaigns in words, from the ledger, the holds and the counts."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from streamer.ledger import campaigns
from streamer.ledger.connection import Client
from streamer.ledger.holds import Holds
from streamer.model.campaign import CampaignName
from streamer.model.standing import standing
from streamer.progress.report import Report
from streamer.provider.accounts import Accounts
from streamer.settings import Settings


class Standings:
    """Describes campaigns' states in words.

    Args:
        client: a Redis client.
        settings: the settings, whose accounts are valid.
    """

    def __init__(self, client: Client, settings: Settings) -> None:
        self._client = client
        self._accounts = Accounts(settings.accounts)
        self._holds = Holds(client)

    def of(
        self,
        names: Sequence[CampaignName],
        reports: Mapping[CampaignName, Report],
        now: datetime,
    ) -> dict[CampaignName, str]:
        """Return each campaign's state in words, in few round trips.

        Args:
            names: the campaigns.
            reports: their progress, as far as anything was counted.
            now: the current time.
        """
        held = self._held()
        found = campaigns.conditions(self._client, names)
        return {
            name: standing(
                condition,
                now,
                late=reports[name].counts.parked if name in reports else 0,
                hold=held.get(self._accounts.of(name.organization) or ""),
            )
            for name, condition in zip(names, found, strict=True)
        }

    def _held(self) -> dict[str, str]:
        """Return the accounts that are held as a whole, with the reason."""
        states = self._holds.read(self._accounts.names())
        return {
            account: f"{account} ({state.holds[None].reason})"
            for account, state in states.items()
            if None in state.holds
        }
