"""`streamer config`: the settings in effect, and where each comes from."""

import os
import re
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import urlsplit

import typer
from pydantic import BaseModel, JsonValue

from streamer.cli.common import (
    FAILED,
    ConfigOption,
    JsonOption,
    fail,
    read_settings,
    say,
    show_json,
    show_table,
)
from streamer.doctor.check_result import Level, failed
from streamer.doctor.settings import check_settings
from streamer.model.printable import key_hint
from streamer.provider.route import check_url
from streamer.settings import (
    DEFAULT_API_URL,
    SettingsError,
    own_variables,
    read_file,
    source,
)

app = typer.Typer(no_args_is_help=True, help="The settings in effect, and where they come from.")

_HIDDEN = "(hidden)"
_SECRET = re.compile(r"password|secret|token|credential|jaas|\.key\b|key\.pem", re.IGNORECASE)


class ShownSetting(NamedTuple):
    """A setting as it may be shown."""

    name: str
    value: JsonValue
    source: str


@app.command()
def show(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show every setting with its value and where it comes from. Secrets are hidden."""
    settings = read_settings(config)
    try:
        file = read_file(config)
    except SettingsError as error:
        fail(error)
    variables = own_variables()
    shown = [
        ShownSetting(".".join(names), value, source(names, file, variables) or "default")
        for names, value in _values((), settings)
    ]
    given = "RESEND_API_URL" if "RESEND_API_URL" in os.environ else "default"
    shown.append(ShownSetting("RESEND_API_URL", settings.api_url or DEFAULT_API_URL, given))
    if as_json:
        show_json([each._asdict() for each in shown])
    else:
        show_table(
            ("SETTING", "VALUE", "FROM"),
            [(each.name, _text(each.value), each.source) for each in shown],
        )


@app.command()
def check(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Check the settings without network access; `streamer doctor` checks the servers, too."""
    settings = read_settings(config)
    results = [each for each in check_settings(settings) if each.level is not Level.OK]
    try:
        check_url(settings.api_url)
    except SettingsError as error:
        results.append(failed("resend", str(error)))
    if as_json:
        show_json(
            [
                {"level": r.level, "subject": r.subject, "text": r.text, "fix": r.mend}
                for r in results
            ]
        )
    for result in () if as_json else results:
        fix = f": {result.mend}" if result.mend else ""
        say(f"{result.level}: {result.subject}: {result.text}{fix}")
    if any(result.level is Level.FAILED for result in results):
        raise typer.Exit(FAILED)
    if not as_json:
        say("the settings are valid")


def _values(names: tuple[str, ...], value: object) -> Iterator[tuple[tuple[str, ...], JsonValue]]:
    """Yield each setting below a name."""
    if isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _values((*names, name), getattr(value, name))
    elif isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from _values((*names, str(name)), inner)
    else:
        yield names, _shown(names, value)


def _shown(names: tuple[str, ...], value: object) -> JsonValue:
    if value is None or isinstance(value, bool | int | float):
        return value
    if names == ("redis", "url"):
        return _without_password(str(value))
    if _SECRET.search(".".join(names)) and "_env" not in names[-1] and "_file" not in names[-1]:
        return _HIDDEN
    if names[-1] == "api_key_env":
        key = os.environ.get(str(value), "").strip()
        return f"{value} ({key_hint(key)})"
    if isinstance(value, list | tuple):
        return [str(each) for each in value]
    return str(value) if not isinstance(value, dict) else {}


def _without_password(url: str) -> str:
    netloc = urlsplit(url).netloc
    user, at, host = netloc.rpartition("@")
    name, colon, _ = user.partition(":")
    return url.replace(netloc, f"{name}{colon and ':(hidden)'}{at}{host}", 1) if at else url


def _text(value: JsonValue) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return str(value) if value != {} else "none"
