"""`streamer account`: the accounts at Resend, and what holds them."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from pydantic import JsonValue

from streamer.cli.common import (
    WRONG_USE,
    ConfigOption,
    JsonOption,
    fail,
    read_settings,
    redis_client,
    show_json,
    show_table,
)
from streamer.flow.rate import allowed_rate
from streamer.ledger.holds import AccountState, By, Hold, Holds, Release
from streamer.settings import Account, Settings

app = typer.Typer(no_args_is_help=True, help="The accounts at Resend, and what holds them.")

AccountArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="The account, as the settings name it.")
]
DomainOption = Annotated[
    str | None, typer.Option("--domain", help="Only mail that comes from this domain.")
]


@app.command("list")
def list_(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """List the accounts: their rate, and what holds them since and until when."""
    settings = read_settings(config)
    with redis_client(settings) as client:
        states = Holds(client).read(settings.accounts)
    if as_json:
        show_json([_as_json(n, settings.accounts[n], state) for n, state in states.items()])
        return
    rows = []
    for name, state in states.items():
        rate = f"{allowed_rate(settings.accounts[name].requests_per_second, state.limit):g}/s"
        if not state.holds:
            rows.append((name, rate, _circuit(state), "", "", "", ""))
        for domain, hold in state.holds.items():
            until = hold.until.isoformat(timespec="seconds") if hold.until else _open_end(hold)
            since = hold.since.isoformat(timespec="seconds")
            rows.append((name, rate, "held", domain or "all", hold.reason, since, until))
    show_table(("ACCOUNT", "RATE", "STATE", "DOMAIN", "REASON", "SINCE", "UNTIL"), rows)
    for name, state in states.items():
        for hold in state.holds.values():
            if hold.detail:
                typer.echo(f"{name}, {hold.reason}: {hold.detail}")


@app.command()
def hold(
    name: AccountArgument,
    domain: DomainOption = None,
    why: Annotated[str, typer.Option(help="Shown to whoever lists the accounts.")] = "",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send nothing through an account until it is released. Its records are parked."""
    settings = _settings_with(name, config)
    placed = Hold(by=By.OPERATOR, reason="operator", detail=why, since=datetime.now(UTC))
    with redis_client(settings) as client:
        Holds(client).put(name, domain and domain.lower(), placed)
    if as_json:
        show_json({"account": name, "domain": domain, "held": True})
    else:
        typer.echo(f"{name}: held")


@app.command()
def release(
    name: AccountArgument,
    domain: DomainOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """End a hold. One that an answer of Resend's put is tested by a worker at once."""
    settings = _settings_with(name, config)
    with redis_client(settings) as client:
        released = Holds(client).release(name, domain and domain.lower(), By.OPERATOR)
    if as_json:
        show_json({"account": name, "domain": domain, "release": released.value})
        return
    words = {
        Release.RELEASED: "released",
        Release.DUE: "a worker tests it at once, and releases it if Resend takes the mail",
        Release.NONE: "was not held",
    }
    typer.echo(f"{name}: {words[released]}")


def _settings_with(name: str, config: Path | None) -> Settings:
    settings = read_settings(config)
    if name not in settings.accounts:
        names = ", ".join(settings.accounts)
        fail(f"the settings have no account {name}; they have: {names}", WRONG_USE)
    return settings


def _circuit(state: AccountState) -> str:
    return f"failing ({state.failures} calls in a row)" if state.failures else "works"


def _open_end(hold: Hold) -> str:
    return "released by hand" if hold.by is By.OPERATOR else "a test call gets through"


def _as_json(name: str, account: Account, state: AccountState) -> dict[str, JsonValue]:
    organizations: JsonValue = None
    if account.organizations is not None:
        organizations = [*account.organizations]
    return {
        "account": name,
        "organizations": organizations,
        "requests_per_second": allowed_rate(account.requests_per_second, state.limit),
        "advertised_limit": state.limit,
        "failures_in_a_row": state.failures,
        "holds": [
            {"domain": domain, **hold.model_dump(mode="json")}
            for domain, hold in state.holds.items()
        ],
    }
