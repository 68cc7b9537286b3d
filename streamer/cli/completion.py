"""Completes names in a shell: those of campaigns, organizations and accounts.

The names come from Redis and the settings. Where these cannot be read, nothing is completed: a
shell that waits for its user is no place for errors.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

import typer

from streamer.ledger import campaigns
from streamer.ledger.connection import REDIS_ERRORS, Client, connect
from streamer.settings import Settings, SettingsError, load


def complete_campaign(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the campaigns whose names begin so."""
    return _complete(ctx, incomplete, lambda _, client: map(str, campaigns.names(client)))


def complete_organization(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the organizations whose names begin so."""
    return _complete(ctx, incomplete, lambda _, client: campaigns.organizations(client))


def complete_account(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the accounts and the organizations whose names begin so."""
    return _complete(
        ctx,
        incomplete,
        lambda settings, client: {*settings.accounts, *campaigns.organizations(client)},
    )


def _complete(
    ctx: typer.Context, incomplete: str, names: Callable[[Settings, Client], Iterable[str]]
) -> list[str]:
    config = ctx.params.get("config")
    try:
        settings = load(Path(config) if config else None)
        client = connect(settings.redis)
    except (SettingsError, ValueError, *REDIS_ERRORS):
        return []
    try:
        return sorted(name for name in names(settings, client) if name.startswith(incomplete))
    except REDIS_ERRORS:
        return []
    finally:
        client.close()
