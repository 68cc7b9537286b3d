"""The options that give a campaign's content."""

from pathlib import Path
from typing import Annotated

import typer
from pydantic import JsonValue

from streamer.cli import definitions
from streamer.cli.definitions import InvalidDefinitionError
from streamer.cli.output import fail
from streamer.errors import WRONG_USE

Fields = dict[str, JsonValue]

FromOption = Annotated[
    str | None, typer.Option("--from", help="Sender, e.g. 'Acme <news@acme.test>'.")
]
SubjectOption = Annotated[str | None, typer.Option(help="Subject (a template).")]
HtmlOption = Annotated[Path | None, typer.Option(metavar="FILE", help="HTML body (a template).")]
TextOption = Annotated[Path | None, typer.Option(metavar="FILE", help="Text body (a template).")]
ReplyToOption = Annotated[list[str] | None, typer.Option(help="Reply-to address; repeatable.")]
ExpectedOption = Annotated[int | None, typer.Option(min=0, help="Expected number of recipients.")]
ExpiresOption = Annotated[
    str | None, typer.Option(help="Stop sending at this time (RFC 3339 with an offset).")
]
StartOption = Annotated[
    str | None, typer.Option(help="Send nothing before this time (RFC 3339 with an offset).")
]


def given_fields(
    from_: str | None,
    subject: str | None,
    html: Path | None,
    text: Path | None,
    reply_to: list[str] | None,
    expected_recipients: int | None,
    expires_at: str | None,
    start_at: str | None,
) -> Fields:
    """Return the fields that the options give; exits with 2 if a file cannot be read."""
    if html == text == Path("-"):
        fail("--html and --text cannot both be read from standard input", WRONG_USE)
    fields: Fields = {
        "from": from_,
        "subject": subject,
        "reply_to": [*reply_to] if reply_to else None,
        "expected_recipients": expected_recipients,
        "expires_at": expires_at,
        "start_at": start_at,
    }
    try:
        for field, path in (("html", html), ("text", text)):
            fields[field] = None if path is None else definitions.read_text(path)
    except InvalidDefinitionError as error:
        fail(f"not defined: {error}", WRONG_USE)
    return {name: value for name, value in fields.items() if value is not None}
