"""Strict parsing of campaign definitions, from a file or from options."""

import sys
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from pydantic import ConfigDict, JsonValue, ValidationError
from pydantic_core import ErrorDetails

from streamer.errors import InvalidDataError
from streamer.mail.content import content_faults
from streamer.mail.templates import Templates
from streamer.model.campaign import Definition
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
    return _checked(partial(_Strict.model_validate_json, text))


def from_fields(fields: dict[str, JsonValue]) -> Definition:
    """Build a definition from its fields.

    Raises:
        InvalidDefinitionError: the definition is invalid.
    """
    return _checked(partial(_Strict.model_validate, fields))


def _checked(validate: Callable[[], _Strict]) -> Definition:
    try:
        strict = validate()
    except ValidationError as error:
        raise _explain(error) from None
    templates = Templates(MailSettings().max_bytes)
    if faults := content_faults(strict, templates, datetime.now(UTC)):
        raise InvalidDefinitionError("; ".join(faults))
    return Definition.model_validate(strict.model_dump(by_alias=True))


def _explain(error: ValidationError) -> InvalidDefinitionError:
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    return InvalidDefinitionError("; ".join(map(_fault, problems)))


def _fault(problem: ErrorDetails) -> str:
    field = ".".join(map(str, problem["loc"])) or "definition"
    if problem["type"] == "extra_forbidden":
        return f"{field}: unknown field"
    return f"{field}: {problem['msg'].removeprefix('Value error, ')}"
