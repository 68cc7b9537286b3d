"""A sample mail: a campaign's message and one recipient to render it for."""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Annotated, BinaryIO

import msgspec
import orjson
import typer
from pydantic import JsonValue

from streamer.cli.common import WRONG_USE, fail
from streamer.cli.recipient_file import open_file, warn_of_unknown
from streamer.cli.rows import (
    FORMATS,
    Format,
    InvalidFileError,
    InvalidRow,
    Lines,
    ParsedRow,
    read_rows,
)
from streamer.ledger import campaigns
from streamer.ledger.campaigns import UnreadableDefinitionError
from streamer.ledger.connection import Client
from streamer.mail.compose import Composer
from streamer.mail.content import content_faults
from streamer.mail.review import MailWarning, undefined_variables, warnings_on_undefined
from streamer.mail.templates import Templates, UndefinedError
from streamer.model.campaign import CampaignName, Message
from streamer.model.event import RecipientEvent, parse
from streamer.model.nearest import did_you_mean
from streamer.settings import Settings, SettingsError
from streamer.worker.process import make_composer

RecipientOption = Annotated[
    Path | None,
    typer.Option(
        "--recipient",
        metavar="FILE",
        help="Render for this recipient: a JSON object with an event's fields, or the first row of "
        "CSV or JSON lines.",
    ),
]
VarsOption = Annotated[
    str | None,
    typer.Option(
        "--vars", metavar="JSON", help="Render for a sample recipient with these variables."
    ),
]

_SAMPLE_EMAIL, _SAMPLE_NAME = "recipient@example.com", "Ann Example"


@dataclass(frozen=True, slots=True)
class SampleMail:
    """What a worker renders a mail from: an event and its campaign's message."""

    event: RecipientEvent
    message: Message

    def compose(self, composer: Composer, address: str) -> bytes:
        """Compose the mail for an address. Raises what `Composer.compose` raises."""
        return composer.compose(self.event, address, self.message)

    def faults(self, settings: Settings) -> list[str]:
        """Return why no recipient could get this message."""
        templates = Templates(settings.mail.max_bytes)
        return content_faults(self.message, templates, datetime.now(UTC))

    def explain(self, error: Exception, composer: Composer, address: str) -> list[MailWarning]:
        """List all undefined variables, if that is why `compose` failed."""
        if not isinstance(error, UndefinedError):
            return []

        def render(variables: Mapping[str, JsonValue]) -> bytes:
            event = msgspec.structs.replace(self.event, variables=dict(variables))
            return composer.compose(event, address, self.message)

        return warnings_on_undefined(undefined_variables(render, self.event.variables))


def composer_of(settings: Settings) -> Composer:
    """The workers' composer; exits with 2 if a worker would refuse to start."""
    try:
        return make_composer(settings)
    except SettingsError as error:
        fail(f"settings: {error}", error.exit_code)


def load_sample_mail(
    client: Client, name: CampaignName, file: Path | None, variables: str | None
) -> SampleMail:
    """Load the recipient given by the options, and the message the campaign would send.

    Exits with an error if there is no such recipient or no message.
    """
    if file is not None and variables is not None:
        fail("give --recipient or --vars, not both", WRONG_USE)
    given = None if variables is None else _parse_variables(variables)
    try:
        found = campaigns.load_message(client, *name)
    except UnreadableDefinitionError as error:
        fail(error)
    if file is not None:
        event = _from_file(file, name, is_defined=found is not None)
    else:
        event = _sample(name, given or {})
    message = event.message or (found[1] if found is not None else None)
    if message is None:
        near = did_you_mean(str(name), map(str, campaigns.names(client)))
        fail(f"campaign {name} is not defined{near or '; see: streamer campaign create'}")
    return SampleMail(event, message)


def _parse_variables(text: str) -> dict[str, JsonValue]:
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        fail(f"--vars: not JSON: {error}", WRONG_USE)
    if not isinstance(found, dict):
        fail('--vars: expected a JSON object, e.g. {"first_name": "Ann"}', WRONG_USE)
    return found


def _sample(name: CampaignName, variables: dict[str, JsonValue]) -> RecipientEvent:
    return RecipientEvent(
        organization_id=name.organization,
        campaign_id=name.campaign_id,
        recipient_id="sample",
        email=_SAMPLE_EMAIL,
        name=None if "name" in variables else _SAMPLE_NAME,  # the event's name has priority
        variables=variables,
    )


def _from_file(file: Path, name: CampaignName, *, is_defined: bool) -> RecipientEvent:
    suffix = file.suffix.lower()
    form = Format.JSONL if suffix == ".json" else FORMATS.get(suffix)
    if form is None:
        fail(f"unknown format of {file}: expected .json, .jsonl, .ndjson or .csv", WRONG_USE)
    with ExitStack() as stack:
        stream, _ = open_file(file, stack)
        if suffix == ".json":
            stream = _one_line(file, stream)
        try:
            rows = read_rows(Lines(stream), form, name, is_defined=is_defined)
            first = next(iter(rows), None)
        except InvalidFileError as error:
            fail(f"{file}: {error}")
    if isinstance(first, InvalidRow):
        fail(f"{file}: line {first.line}: {first.reason}")
    if not isinstance(first, ParsedRow):
        fail(f"{file}: contains no recipient")
    warn_of_unknown(rows.unknown)
    return parse(first.value)


def _one_line(file: Path, stream: BinaryIO) -> BinaryIO:
    """Convert a JSON document, possibly of many lines, to JSON lines."""
    try:
        return BytesIO(orjson.dumps(orjson.loads(stream.read().removeprefix(b"\xef\xbb\xbf"))))
    except (OSError, orjson.JSONDecodeError) as error:
        fail(f"{file}: not JSON: {error}")
