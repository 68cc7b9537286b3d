"""`streamer account`: list, hold and release Resend accounts."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated

import typer
from pydantic import JsonValue

from streamer.cli.common import (
    ConfigOption,
    JsonOption,
    fail,
    read_settings,
    redis_client,
    say,
    show_json,
    show_table,
)
from streamer.cli.completion import complete_account
from streamer.cli.names import find_account, known_organizations
from streamer.flow.rate import allowed_rate
from streamer.ledger.connection import Client
from streamer.ledger.holds import AccountState, By, DrawnBy, Hold, Holds, HoldTests
from streamer.model.address import InvalidAddressError, normalise
from streamer.model.instants import as_local_text
from streamer.provider.accounts import Accounts
from streamer.settings import AccountSettings, Settings, SettingsError
from streamer.worker.process import make_accounts

app = typer.Typer(no_args_is_help=True, help="List, hold and release Resend accounts.")

AccountArgument = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        autocompletion=complete_account,
        help="Account, or an organization that it serves.",
    ),
]


def _domain(text: str) -> str:
    """Parse a sender's domain. An empty one would stand for the whole account."""
    domain = text.strip().lower()
    try:
        normalise(f"x@{domain}")
    except InvalidAddressError as error:
        raise typer.BadParameter(f"invalid domain {text!r}: {error}") from None
    return domain


DomainOption = Annotated[
    str | None,
    typer.Option(
        "--domain", metavar="DOMAIN", parser=_domain, help="Only mail sent from this domain."
    ),
]


@app.command("list")
def list_(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """List the accounts with their rates, their holds, and how each hold is tested."""
    settings = read_settings(config)
    with redis_client(settings) as client:
        holds = Holds(client)
        served = _served(client, settings)
        states = holds.read(settings.accounts)
        tests = {
            (name, domain): holds.tests(name, domain)
            for name, state in states.items()
            for domain, hold in state.holds.items()
            if hold.by is not By.OPERATOR
        }
    if as_json:
        show_json(
            [
                _as_json(n, settings.accounts[n], states[n], tests) | {"serves": served[n]}
                for n in states
            ]
        )
        return
    rows = []
    for name, state in states.items():
        rate = f"{allowed_rate(settings.accounts[name].requests_per_second, state.limit):g}/s"
        if not state.holds:
            rows.append((name, rate, _circuit(state), "", "", "", ""))
        for domain, hold in state.holds.items():
            until = _time(hold.until) if hold.until else _open_end(hold)
            held = ("held", domain or "all", hold.reason, _time(hold.since), until)
            rows.append((name, rate, *held))
    show_table(("ACCOUNT", "RATE", "STATE", "DOMAIN", "REASON", "SINCE", "UNTIL"), rows)
    for name in states:
        whom = ", ".join(served[name]) or "no organization so far"
        if settings.accounts[name].organizations is None:
            whom += ", and all that no other account names"
        say(f"{name} serves {whom}")
    for name, state in states.items():
        for domain, hold in state.holds.items():
            if hold.detail:
                say(f"{name}, {hold.reason}: {hold.detail}")
            if hold.drawn_by is not None:
                say(f"{name}, {hold.reason}: {_drawn(hold.drawn_by)}")
            if (name, domain) in tests:
                say(f"{name}, {hold.reason}: {_tested(tests[name, domain])}")


@app.command()
def hold(
    name: AccountArgument,
    domain: DomainOption = None,
    why: Annotated[str, typer.Option(help="Note shown by `account list`.")] = "",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Hold an account: send nothing through it and park its records until it is released."""
    settings = read_settings(config)
    placed = Hold(by=By.OPERATOR, reason="operator", detail=why, since=datetime.now(UTC))
    with redis_client(settings) as client:
        account = find_account(client, settings, accounts_of(settings), name)
        Holds(client).put(account, domain, placed)
    if as_json:
        show_json({"account": account, "domain": domain, "held": True})
    else:
        say(f"{_what(account, domain)}: held{_serves(settings, account, name)}")


@app.command()
def release(
    name: AccountArgument,
    domain: DomainOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """End a hold and send the parked records.

    If batches get the same answer again, only their sender domains are held, not the whole
    account.
    """
    settings = read_settings(config)
    with redis_client(settings) as client:
        account = find_account(client, settings, accounts_of(settings), name)
        released = Holds(client).release(account, domain, By.OPERATOR)
    if as_json:
        word = "released" if released else "none"
        show_json({"account": account, "domain": domain, "release": word})
    else:
        word = "released" if released else "was not held"
        say(f"{_what(account, domain)}: {word}{_serves(settings, account, name)}")


def accounts_of(settings: Settings) -> Accounts:
    """Return the accounts; exits with 2 if an organization has two."""
    try:
        return make_accounts(settings)
    except SettingsError as error:
        fail(f"settings: {error}", error.exit_code)


def _what(account: str, domain: str | None) -> str:
    return f"account {account}" if domain is None else f"account {account}, domain {domain}"


def _serves(settings: Settings, account: str, given: str) -> str:
    """Say whom else this concerns, if the account was given by an organization it serves."""
    if given == account:
        return ""
    named = settings.accounts[account].organizations
    others = "all that no other account names" if named is None else ", ".join(named)
    return f" (it serves the organizations: {others})"


def _served(client: Client, settings: Settings) -> dict[str, list[str]]:
    """Return the known organizations that each account serves."""
    accounts = accounts_of(settings)
    served: dict[str, list[str]] = {name: [] for name in settings.accounts}
    for organization in sorted(known_organizations(client, settings)):
        account = accounts.of(organization)
        if account is not None:
            served[account].append(organization)
    return served


def _circuit(state: AccountState) -> str:
    return f"failing ({state.failures} calls in a row)" if state.failures else "ok"


def _open_end(hold: Hold) -> str:
    return "released by hand" if hold.by is By.OPERATOR else "a test call succeeds"


def _time(moment: datetime) -> str:
    return as_local_text(moment)


def _drawn(by: DrawnBy) -> str:
    status = "" if by.status is None else f" with status {by.status}"
    return f"answered{status} to batch {by.batch_id} of {by.organization_id}"


def _tested(tests: HoldTests) -> str:
    due = "now" if tests.due is None else f"at {_time(tests.due)}"
    if not tests.batches:
        return f"next test {due}, with the next batch"
    first, *others = tests.batches
    more = f", then {len(others)} others in turn" if others else ""
    return f"next test {due}, with batch {first.batch_id} of {first.organization}{more}"


def _as_json(
    name: str,
    account: AccountSettings,
    state: AccountState,
    tests: Mapping[tuple[str, str | None], HoldTests],
) -> dict[str, JsonValue]:
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
            {
                "domain": domain,
                **hold.model_dump(mode="json"),
                **_tests_as_json(tests.get((name, domain), HoldTests(None, []))),
            }
            for domain, hold in state.holds.items()
        ],
    }


def _tests_as_json(tests: HoldTests) -> dict[str, JsonValue]:
    return {
        "next_test": None if tests.due is None else tests.due.isoformat(),
        "tested_with": [
            {"organization_id": batch.organization, "batch_id": batch.batch_id}
            for batch in tests.batches
        ],
    }
