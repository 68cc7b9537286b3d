"""Rendering the mails of a file's first rows, before anything is produced."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import chain

import msgspec
from pydantic import JsonValue

from streamer.cli.output import fail, warn
from streamer.cli.rows import InvalidRow, ParsedRow
from streamer.mail.compose import Composer, RenderError, TooLargeError
from streamer.mail.content import content_faults, variables
from streamer.mail.review import undefined_variables
from streamer.mail.templates import Templates, UndefinedError
from streamer.mail.unsubscribe import UnsubscribeLinks
from streamer.model.address import InvalidAddressError, normalise
from streamer.model.campaign import Definition, Message
from streamer.model.event import RecipientEvent, parse
from streamer.model.nearest import did_you_mean
from streamer.settings import Settings, SettingsError
from streamer.worker.process import make_composer

_COUNT = 3
_LOOKED_AT = 100


class FirstRows:
    """Compares the rows of a file with the templates that they are for.

    Args:
        settings: the settings.
        definition: the campaign's; None if each row carries its own message.
        allow_missing: accept undefined variables, which fail their recipients alone.
    """

    def __init__(
        self, settings: Settings, definition: Definition | None, *, allow_missing: bool
    ) -> None:
        self._templates = Templates(settings.mail.max_bytes)
        self._composer = _composer(settings)
        self._definition = definition
        self._allow_missing = allow_missing

    def check(
        self, rows: Iterable[ParsedRow | InvalidRow], columns: Sequence[str] | None
    ) -> Iterator[ParsedRow | InvalidRow]:
        """Return the same rows; exits with 1 if the mails of the first ones cannot be rendered.

        Args:
            rows: the rows.
            columns: the columns of a CSV file that are variables; None for JSON lines.
        """
        if self._definition is not None:
            faults = content_faults(self._definition, self._templates, datetime.now(UTC))
            if faults:
                fail(f"nothing was produced: {'; '.join(faults)}")
            if columns is not None:
                self._warn_of_unused(self._definition, columns)
        rows = iter(rows)
        taken: list[ParsedRow | InvalidRow] = []
        events: list[tuple[int, RecipientEvent]] = []
        for row in rows:
            taken.append(row)
            if isinstance(row, ParsedRow):
                events.append((row.line, parse(row.value)))
            if len(events) == _COUNT or len(taken) == _LOOKED_AT:
                break
        self._render(events, columns)
        return chain(taken, rows)

    def _warn_of_unused(self, message: Message, columns: Sequence[str]) -> None:
        if message.template is not None:
            return  # stored at Resend, so unknown here
        used = variables(message, self._templates)
        if unused := [name for name in columns if name not in used]:
            warn(f"columns that no template uses: {', '.join(unused)}")

    def _render(
        self, events: Sequence[tuple[int, RecipientEvent]], columns: Sequence[str] | None
    ) -> None:
        missing: dict[str, list[str]] = {}
        faulty = 0
        for line, event in events:
            message = event.message or self._definition
            if message is None:
                continue
            try:
                self._composer.compose(event, _address(event), message)
            except UndefinedError as error:
                known = list(event.variables) if columns is None else columns
                for name in self._undefined(event, message) or [error.name]:
                    missing.setdefault(name, list(known))
            except (RenderError, TooLargeError) as error:
                faulty += 1
                warn(f"line {line}: {error}")
        for name, known in missing.items():
            warn(f"{name} is undefined{did_you_mean(name, known)}")
        if missing and not self._allow_missing:
            fail(
                "nothing was produced: the first rows lack variables that the templates need. Add "
                "them, give them a default in the template as in {{ name|default('…') }}, or "
                "accept that such recipients get no mail with --allow-missing"
            )
        if faulty and faulty == len(events):
            fail("nothing was produced: no mail of the first rows can be rendered")

    def _undefined(self, event: RecipientEvent, message: Message) -> list[str]:
        def render(given: Mapping[str, JsonValue]) -> bytes:
            changed = msgspec.structs.replace(event, variables=dict(given))
            return self._composer.compose(changed, _address(event), message)

        return undefined_variables(render, event.variables)


def _composer(settings: Settings) -> Composer:
    """Return the workers' composer; with stand-in links if this machine lacks their secret."""
    try:
        return make_composer(settings)
    except SettingsError:
        links = UnsubscribeLinks("https://example.com/u", [b"stand-in" * 4])
        limit = settings.mail.max_bytes
        return Composer(Templates(limit), links, limit)


def _address(event: RecipientEvent) -> str:
    try:
        return normalise(event.email)
    except InvalidAddressError:
        return "recipient@example.com"  # it gets no mail, but its variables are as good
