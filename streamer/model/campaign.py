"""Campaigns: content, definition and state."""

import re
from datetime import datetime
from enum import StrEnum
from sys import getsizeof
from typing import Annotated, NamedTuple, Self

from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    model_validator,
)

Id = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._:@-]{1,128}$")]
"""The id of an organization, campaign or recipient."""


_MAX_NAMED = 100
_MESSAGE_BYTES = 1_500
_LISTED_BYTES = 250
"""Approximate memory of an address, or a half of a tag or header, besides its text."""
_NESTED_BYTES = 30
"""The most memory that a character of JSON takes as an object: a list in a list."""

_DATE_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d")


def _only_text(value: object) -> object:
    """Accept RFC 3339 text only; pydantic would read a number as seconds since 1970."""
    if isinstance(value, datetime) or (isinstance(value, str) and _DATE_TIME.match(value)):
        return value
    raise ValueError("must be a date and time in RFC 3339 with an offset")


Timestamp = Annotated[AwareDatetime, BeforeValidator(_only_text)]
"""A date and time in RFC 3339, with an offset."""


def _first_fault(value: object) -> object:
    """Stop at the first value that is not a string.

    Pydantic reports every error in a mapping; for a megabyte of bad entries that takes seconds and
    hundreds of megabytes.
    """
    if isinstance(value, dict):
        for name, text in value.items():
            if not isinstance(text, str):
                raise ValueError(f"the value of {name[:_MAX_NAMED]!r} must be a string")
    return value


class CampaignName(NamedTuple):
    """A campaign's full name: organization id and campaign id, as ORGANIZATION/CAMPAIGN."""

    organization: str
    campaign_id: str

    def __str__(self) -> str:
        return f"{self.organization}/{self.campaign_id}"


class CampaignState(StrEnum):
    """The state of a campaign, which determines what happens to its recipients."""

    ACTIVE = "active"
    PAUSED = "paused"
    CANCELLED = "cancelled"
    COMPLETED = "completed"


class Model(BaseModel):
    """Base class for external input: immutable, ignores unknown fields."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)


class Tag(Model):
    """A tag that Resend shows and returns in its webhooks."""

    name: str
    value: str


class ResendTemplate(Model):
    """A template stored at Resend, with the variables shared by all recipients."""

    id: str
    variables: dict[str, JsonValue] = Field(default_factory=dict)


class Message(Model):
    """What a campaign sends: Jinja templates, or a template stored at Resend.

    The field names are Resend's. `html`, `text`, `subject` and the values of `headers` are
    templates; the other fields are used as they are.
    """

    from_: Annotated[str, Field(alias="from", min_length=1)]
    subject: str | None = None
    html: str | None = None
    text: str | None = None
    template: ResendTemplate | None = None
    reply_to: str | Annotated[list[str], Field(fail_fast=True)] | None = None
    headers: Annotated[dict[str, str], BeforeValidator(_first_fault)] | None = None
    tags: Annotated[list[Tag], Field(fail_fast=True)] | None = None
    topic_id: str | None = None
    scheduled_at: str | None = None
    expected_recipients: Annotated[int, Field(ge=0)] | None = None
    expires_at: Timestamp | None = None

    @model_validator(mode="after")
    def _has_content(self) -> Self:
        if self.template is not None:
            if self.html is not None or self.text is not None:
                raise ValueError("template cannot be combined with html or text")
        elif self.html is None and self.text is None:
            raise ValueError("at least one of html, text and template is required")
        elif self.subject is None:
            raise ValueError("subject is required")
        return self


def memory_of(message: Message) -> int:
    """Return an upper estimate of the memory that a message takes, in bytes.

    For whatever keeps messages up to a number of bytes: any part of one may be large.
    """
    headers, tags = message.headers or {}, message.tags or ()
    reply_to = [message.reply_to] if isinstance(message.reply_to, str) else message.reply_to or ()
    listed = [*reply_to, *headers, *headers.values()]
    listed += [text for tag in tags for text in (tag.name, tag.value)]
    single = (message.from_, message.subject, message.html, message.text)
    more = (message.topic_id, message.scheduled_at)
    size = _MESSAGE_BYTES + _LISTED_BYTES * len(listed)
    size += sum(getsizeof(text) for text in (*single, *more, *listed) if text is not None)
    if message.template is not None:
        size += _NESTED_BYTES * len(repr(message.template))
    return size


class Definition(Message):
    """A campaign as created: its ids, its message and its start time."""

    start_at: Timestamp | None = None

    organization_id: Id
    campaign_id: Id
