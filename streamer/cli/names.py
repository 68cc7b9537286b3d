"""Names given on the command line that must exist: what does not is named, with the nearest."""

from collections.abc import Iterable

from streamer.cli.output import fail
from streamer.ledger import campaigns, suppression
from streamer.ledger.connection import Client
from streamer.model.campaign import CampaignName
from streamer.model.nearest import did_you_mean
from streamer.progress.store import Store
from streamer.provider.accounts import Accounts
from streamer.settings import Settings


def all_campaigns(client: Client, settings: Settings) -> list[CampaignName]:
    """Return every campaign that is defined, or of which a record was counted, sorted."""
    counted = Store(client, settings.kafka.group_id).campaigns()
    return sorted({*campaigns.names(client), *counted})


def require_campaign(client: Client, settings: Settings, name: CampaignName) -> None:
    """Exit with 1 unless the campaign is defined, or one of its records was counted."""
    known = all_campaigns(client, settings)
    if name not in known:
        fail(unknown_campaign(name, known))


def unknown_campaign(name: CampaignName, known: Iterable[CampaignName]) -> str:
    """Return what to say of a campaign that does not exist, naming those that may be meant."""
    return (
        f"campaign {name} is not defined, and none of its records was counted"
        f"{did_you_mean(str(name), map(str, known))}"
    )


def known_organizations(client: Client, settings: Settings) -> set[str]:
    """Return the organizations that have campaigns, or that the settings name."""
    named = (account.organizations or () for account in settings.accounts.values())
    found = {name.organization for name in all_campaigns(client, settings)}
    return found.union(*named)


def require_organization(
    client: Client, settings: Settings, organization: str, hint: str = ""
) -> None:
    """Exit with 1 unless the organization has campaigns or suppressions, or an account names it.

    Args:
        hint: what else to say.
    """
    known = known_organizations(client, settings)
    if organization not in known and not suppression.count(client, organization):
        fail(
            f"organization {organization} is unknown: it has no campaign and no suppressed "
            f"address, and no account names it{did_you_mean(organization, known)}{hint}"
        )


def find_account(client: Client, settings: Settings, accounts: Accounts, given: str) -> str:
    """Return the account of this name, or the one that serves the organization of this name."""
    if given in settings.accounts:
        return given
    known = known_organizations(client, settings)
    account = accounts.of(given) if given in known else None
    if account is None:
        names = [*settings.accounts, *known]
        fail(
            f"there is neither an account nor an organization {given}; the accounts are: "
            f"{', '.join(settings.accounts)}{did_you_mean(given, names)}"
        )
    return account
