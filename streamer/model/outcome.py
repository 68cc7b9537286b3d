"""Reading outcomes, and the names in possibly malformed events."""

from typing import NamedTuple

import orjson
from pydantic import ValidationError

from streamer.errors import InvalidDataError
from streamer.model.address import InvalidAddressError, normalise
from streamer.model.published import PublishedOutcome


class UnreadableOutcomeError(InvalidDataError):
    """The value is not an outcome that this version can read."""


def read_outcome(value: bytes | None) -> PublishedOutcome:
    """Parse the value of an outcome record.

    Raises:
        UnreadableOutcomeError: the value is not an outcome.
    """
    try:
        return PublishedOutcome.model_validate_json(value or b"")
    except ValidationError as error:
        raise UnreadableOutcomeError(str(error)) from None


class Names(NamedTuple):
    """The ids and address in an event, as far as they can be read even if it is malformed."""

    organization: str | None = None
    campaign_id: str | None = None
    recipient_id: str | None = None
    email: str | None = None


def read_names(value: bytes | None) -> Names:
    """Read the names from the value of an input record, whatever it contains."""
    try:
        found = orjson.loads(value or b"")
    except orjson.JSONDecodeError:
        return Names()
    if not isinstance(found, dict):
        return Names()
    fields = ("organization_id", "campaign_id", "recipient_id", "email")
    return Names(*(text if isinstance(text := found.get(f), str) else None for f in fields))


def same_address(text: str) -> str:
    """Return the address as it is compared: normalised, or as given if it is invalid."""
    try:
        return normalise(text)
    except InvalidAddressError:
        return text
