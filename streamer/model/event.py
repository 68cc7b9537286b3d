"""The recipient event: the value of an input record.

`EventSchema` is what an event must be. Asking pydantic about each one would be the largest part of
reading the input, so msgspec reads first, and pydantic decides wherever that could differ.
"""

import re
from datetime import datetime
from functools import lru_cache
from threading import Lock
from typing import Any, NamedTuple, Self

import msgspec
from pydantic import Field, JsonValue, TypeAdapter, ValidationError

from streamer.errors import InvalidDataError
from streamer.model.campaign import Id, Message, Model, Timestamp, memory_of
from streamer.model.reasons import DeadReason

_MAX_PROBLEMS = 5
_MAX_KNOWN_BYTES = 8_000_000
_MAX_DEPTH = 200
"""How deeply pydantic lets JSON nest."""
_MAX_OUTSIDE = 4_000
"""Pydantic refuses integers of more than 4,300 digits, also in fields that are ignored."""
_MAX_TIMESTAMP = 40
"""Longer ones are not remembered: a fraction of a second may have any number of digits."""
_NULL = msgspec.Raw(b"null")
_TIMESTAMP: TypeAdapter[datetime] = TypeAdapter(Timestamp)
_are_ids = re.compile(r"(?:[A-Za-z0-9._:@-]{1,128} ){3}").fullmatch


class EventSchema(Model):
    """One recipient of one campaign. `email` is as given and may be invalid."""

    organization_id: Id
    campaign_id: Id
    recipient_id: Id
    email: str
    name: str | None = None
    variables: dict[str, JsonValue] = Field(default_factory=dict)
    expires_at: Timestamp | None = None
    message: Message | None = None


class RecipientEvent(msgspec.Struct, frozen=True):
    """An event that fits `EventSchema`."""

    organization_id: str
    campaign_id: str
    recipient_id: str
    email: str
    name: str | None = None
    variables: dict[str, JsonValue] = msgspec.field(default_factory=dict)
    expires_at: datetime | None = None
    message: Message | None = None

    @classmethod
    def of(cls, event: EventSchema) -> Self:
        """Return an event that pydantic has accepted."""
        return cls(
            event.organization_id,
            event.campaign_id,
            event.recipient_id,
            event.email,
            event.name,
            event.variables,
            event.expires_at,
            event.message,
        )


class DeadEventError(InvalidDataError):
    """The value is not a recipient event; `reason` and the message say why."""

    def __init__(self, reason: DeadReason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def parse(value: bytes | None) -> RecipientEvent:
    """Parse the value of an input record.

    Equal messages in events of the same campaign are usually the same object.

    Raises:
        DeadEventError: `undecodable` if the value is empty, not UTF-8 or not JSON;
            `invalid_event` if it is not a recipient event, naming the first invalid fields.
    """
    if not value:
        raise DeadEventError(DeadReason.UNDECODABLE, "the record has no value")
    try:
        return _read(value) or validate(value)
    except ValidationError as error:
        raise _explain(error) from None


def validate(value: bytes) -> RecipientEvent:
    """Parse with pydantic alone: what `parse` must return.

    Raises:
        pydantic.ValidationError: the value is not a recipient event.
    """
    return RecipientEvent.of(EventSchema.model_validate_json(value))


class _Fields(msgspec.Struct):
    """The fields of an event as msgspec reads them: their types are right, no more."""

    organization_id: str
    campaign_id: str
    recipient_id: str
    email: str
    name: str | None = None
    variables: dict[str, Any] = msgspec.field(default_factory=dict)  # any JSON
    expires_at: str | None = None
    message: msgspec.Raw = _NULL


class _KnownMessage(NamedTuple):
    """A message that pydantic has accepted, with its JSON and the brackets in it.

    Attributes:
        size: approximate memory, in bytes.
    """

    raw: msgspec.Raw
    brackets: int
    message: Message | None
    size: int


class _KnownMessages:
    """The last message of each campaign, in bounded memory. Thread-safe."""

    def __init__(self) -> None:
        self._by_campaign: dict[tuple[str, str], _KnownMessage] = {}
        self._bytes = 0
        self._lock = Lock()

    def find(self, fields: _Fields) -> _KnownMessage | None:
        """Return what is known of an event's message, or None."""
        if fields.message == _NULL:
            return _NO_MESSAGE
        known = self._by_campaign.get((fields.organization_id, fields.campaign_id))
        return known if known is not None and known.raw == fields.message else None

    def keep(self, fields: _Fields, message: Message | None) -> None:
        """Remember the message of an event that pydantic has accepted."""
        key, raw = (fields.organization_id, fields.campaign_id), fields.message.copy()
        size = len(raw) + (0 if message is None else memory_of(message))
        known = _KnownMessage(raw, _brackets(bytes(raw)), message, size)
        with self._lock:
            before = self._by_campaign.pop(key, None)
            self._by_campaign[key] = known
            self._bytes += size - (0 if before is None else before.size)
            while self._bytes > _MAX_KNOWN_BYTES:
                oldest = self._by_campaign.pop(next(iter(self._by_campaign)))
                self._bytes -= oldest.size


_decode = msgspec.json.Decoder(_Fields).decode
_NO_MESSAGE = _KnownMessage(_NULL, 0, None, 0)
_known_messages = _KnownMessages()


def _read(value: bytes) -> RecipientEvent | None:
    """Parse with msgspec; None where pydantic must decide.

    Both read the same JSON, but msgspec checks neither UTF-8 nor depth nor the size of numbers in
    fields that it skips, as it does with unknown fields and the message.
    """
    try:
        fields = _decode(value)
        expires_at = None if fields.expires_at is None else _timestamp(fields.expires_at)
        if not value.isascii():
            value.decode()
    except (msgspec.DecodeError, ValidationError, UnicodeDecodeError, RecursionError):
        return None
    if not _are_ids(f"{fields.organization_id} {fields.campaign_id} {fields.recipient_id} "):
        return None
    known = _known_messages.find(fields)
    if known is None:
        event = validate(value)
        _known_messages.keep(fields, event.message)
        return event
    outside = len(value) - len(known.raw)
    if outside > 2 * _MAX_DEPTH and (
        outside > _MAX_OUTSIDE or _brackets(value) - known.brackets > _MAX_DEPTH
    ):
        return None
    return RecipientEvent(
        fields.organization_id,
        fields.campaign_id,
        fields.recipient_id,
        fields.email,
        fields.name,
        fields.variables,
        expires_at,
        known.message,
    )


def _timestamp(text: str) -> datetime:
    return (_short_timestamp if len(text) <= _MAX_TIMESTAMP else _TIMESTAMP.validate_python)(text)


@lru_cache(maxsize=256)
def _short_timestamp(text: str) -> datetime:
    return _TIMESTAMP.validate_python(text)


def _brackets(text: bytes) -> int:
    """Return an upper bound of how deeply the JSON nests."""
    return text.count(b"[") + text.count(b"{")


def _explain(error: ValidationError) -> DeadEventError:
    # Omit the input, which may be personal data: the detail goes to headers and logs.
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    if problems[0]["type"] == "json_invalid":
        return DeadEventError(DeadReason.UNDECODABLE, problems[0]["msg"])
    named = [
        f"{'.'.join(map(str, problem['loc'])) or 'event'}: {problem['msg']}"
        for problem in problems[:_MAX_PROBLEMS]
    ]
    if len(problems) > _MAX_PROBLEMS:
        named.append(f"{len(problems) - _MAX_PROBLEMS:,} more errors")
    return DeadEventError(DeadReason.INVALID_EVENT, "; ".join(named))
