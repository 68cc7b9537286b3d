"""Outcomes and events as they are read again."""

from typing import NamedTuple

import orjson
from pydantic import ValidationError

from streamer.errors import InvalidDataError
from streamer.model.address import InvalidAddressError, normalise
from streamer.model.published import PublishedOutcome


class UnreadableOutcomeError(InvalidDataError):
    """The value is no outcome that this version can read."""


def read_outcome(value: bytes | None) -> PublishedOutcome:
    """Read an outcome.

    Raises:
        UnreadableOutcomeError: it is none.
    """
    try:
        return PublishedOutcome.model_validate_json(value or b"")
    except ValidationError as error:
        raise UnreadableOutcomeError(str(error)) from None


class Names(NamedTuple):
    """Whom an event is for, as far as that can be read even if it is malformed."""

    organization: str | None = None
    campaign_id: str | None = None
    recipient_id: str | None = None
    email: str | None = None


def read_names(value: bytes | None) -> Names:
    """The names in an input record's value, which may be anything at all."""
    try:
        found = orjson.loads(value or b"")
    except orjson.JSONDecodeError:
        return Names()
    if not isinstance(found, dict):
        return Names()
    fields = ("organization_id", "campaign_id", "recipient_id", "email")
    return Names(*(text if isinstance(text := found.get(f), str) else None for f in fields))


def same_address(text: str) -> str:
    """The form in which addresses are compared: normalised, or as given if that cannot be."""
    try:
        return normalise(text)
    except InvalidAddressError:
        return text
