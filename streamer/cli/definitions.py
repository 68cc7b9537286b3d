"""Strict parsing of campaign definitions, from a file or from options."""

import sys
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ConfigDict, JsonValue, ValidationError
from pydantic_core import ErrorDetails

from streamer.errors import InvalidDataError
from streamer.mail.content import content_faults
from streamer.mail.templates import Templates
from streamer.model.campaign import Definition, Message
from streamer.settings import MailSettings


class InvalidDefinitionError(InvalidDataError):
    """The definition cannot be sent; the message lists every error."""


class _Strict(Definition):
    """Rejects unknown fields: a misspelt one would silently be left out of the mail."""

    model_config = ConfigDict(extra="forbid")


def read_text(path: Path) -> str:
    """Read a text file, or standard input for `-`.

    Raises:
        InvalidDefinitionError: the file cannot be read or is not UTF-8.
    """
    try:
        data = sys.stdin.buffer.read() if path == Path("-") else path.read_bytes()
        return data.decode("utf-8-sig")
    except OSError as error:
        raise InvalidDefinitionError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise InvalidDefinitionError(f"{path}: not UTF-8 ({error})") from None


def from_json(text: str) -> Definition:
    """Parse a definition, one JSON object with both ids.

    Raises:
        InvalidDefinitionError: the definition is invalid.
    """
    try:
        strict = _Strict.model_validate_json(text)
    except ValidationError as error:
        raise _explain(error) from None
    return _checked(strict)


def from_fields(fields: dict[str, JsonValue]) -> Definition:
    """Build a definition from its fields.

    Raises:
        InvalidDefinitionError: the definition is invalid.
    """
    try:
        strict = _Strict.model_validate(fields)
    except ValidationError as error:
        raise _explain(error) from None
    return _checked(strict)


def _checked(strict: _Strict) -> Definition:
    definition = Definition.model_validate(strict.model_dump(by_alias=True))
    require_sendable(definition)
    return definition


def require_sendable(message: Message) -> None:
    """Check that recipients could get this message.

    Raises:
        InvalidDefinitionError: none could.
    """
    templates = Templates(MailSettings().max_bytes)
    if faults := content_faults(message, templates, datetime.now(UTC)):
        raise InvalidDefinitionError("; ".join(faults))


def _explain(error: ValidationError) -> InvalidDefinitionError:
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    return InvalidDefinitionError("; ".join(map(_fault, problems)))


def _fault(problem: ErrorDetails) -> str:
    field = ".".join(map(str, problem["loc"])) or "definition"
    if problem["type"] == "extra_forbidden":
        return f"{field}: unknown field"
    return f"{field}: {problem['msg'].removeprefix('Value error, ')}"
