"""`streamer sandbox`: a local stand-in for Resend."""

import json
from typing import Annotated

import typer
from pydantic import ValidationError

from streamer.cli.common import fail, say, warn
from streamer.cli.output import show_json_line
from streamer.sandbox import DEFAULT_KEY, AccountSpec, Config, Faults, serve

_LOOPBACK = "127.0.0.1"


def sandbox(
    host: Annotated[
        str, typer.Option(help="Address to listen on. Any client that reaches it can use it.")
    ] = _LOOPBACK,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free port.")] = 8025,
    limit: Annotated[
        int, typer.Option(min=0, help="Requests per second and account. 0: unlimited.")
    ] = 10,
    latency_ms: Annotated[float, typer.Option(min=0, help="Duration of a call.")] = 60,
    key: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=KEY[:LIMIT]",
            help=f"Add an account beside the default one, whose key is {DEFAULT_KEY}; "
            "repeat a name to give an account another key.",
        ),
    ] = None,
    fault: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="Something that goes wrong from the start, as error_after_percent=20 or "
            "refuse_example_domain=true; VALUE is JSON, or plain text. docs/reference.md has all.",
        ),
    ] = None,
    webhook: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Send signed webhooks of what becomes of the mails there, as "
            "http://127.0.0.1:8080/webhooks/default.",
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the address and keys as one line of JSON.")
    ] = False,
) -> None:
    """Run a local stand-in for Resend. It sends nothing; view its mails in a browser."""
    faults = _faults(fault or [], latency_ms)
    try:
        config = Config(
            host=host,
            port=port,
            accounts=_accounts(key or [], limit or None),
            faults=faults,
            # Only tests check acceptances, and a trial may run for days.
            keep_acceptances=False,
            webhook_url=webhook,
        )
    except ValidationError as error:
        raise _bad_parameter(error, "--key") from None

    if host != _LOOPBACK:
        warn(
            f"the sandbox is not a mail server: any client that reaches {host} can submit mails "
            f"with the keys given here, and can read every mail"
        )

    def announce(url: str) -> None:
        if as_json:
            show_json_line(_as_json(url, config))
        else:
            for line in _as_text(url, config):
                say(line)

    try:
        serve(config, announce)
    except OSError as error:
        fail(f"streamer sandbox: cannot listen on {host}:{port}: {error.strerror}")


def _accounts(options: list[str], limit: int | None) -> tuple[AccountSpec, ...]:
    found = {"default": AccountSpec(name="default", keys=(DEFAULT_KEY,), limit=limit)}
    for option in options:
        name, _, rest = option.partition("=")
        key, colon, own_limit = rest.partition(":")
        if not name or not key or (colon and not (own_limit.isascii() and own_limit.isdigit())):
            raise typer.BadParameter(
                f"invalid key {option!r}: expected NAME=KEY[:LIMIT]", param_hint="--key"
            )
        spec = found.get(name) or AccountSpec(name=name, keys=(key,), limit=limit)
        keys = (*(each for each in spec.keys if each != key), key)
        changes: dict[str, object] = {"keys": keys}
        if colon:
            changes["limit"] = int(own_limit) or None
        found[name] = spec.model_copy(update=changes)
    return tuple(found.values())


def _faults(options: list[str], latency_ms: float) -> Faults:
    given: dict[str, object] = {"latency_ms": latency_ms}
    for option in options:
        name, _, text = option.partition("=")
        try:
            given[name] = json.loads(text)
        except json.JSONDecodeError:
            given[name] = text
    try:
        return Faults.model_validate(given)
    except ValidationError as error:
        raise _bad_parameter(error, "--fault") from None


def _bad_parameter(error: ValidationError, option: str) -> typer.BadParameter:
    words = (": ".join([*map(str, each["loc"]), each["msg"]]) for each in error.errors())
    return typer.BadParameter("; ".join(words), param_hint=option)


def _as_json(url: str, config: Config) -> dict[str, object]:
    return {
        "url": url,
        "accounts": {
            account.name: {"keys": account.keys, "limit": account.limit}
            for account in config.accounts
        },
        "webhook_secret": config.webhook_secret,
    }


def _as_text(url: str, config: Config) -> list[str]:
    lines = [f"Sandbox for Resend listening on {url} (open it in a browser). Use it with", ""]
    for account in config.accounts:
        rate = "unlimited" if account.limit is None else f"{account.limit} requests per second"
        lines.extend(
            f"  RESEND_API_URL={url} RESEND_API_KEY={key}  # {account.name}, {rate}"
            for key in account.keys
        )
    if config.webhook_url is not None:
        lines.append(f"  webhooks to {config.webhook_url}, signed with {config.webhook_secret}")
    lines.extend(["", "No mail is actually sent. Press Ctrl-C to stop."])
    return lines
