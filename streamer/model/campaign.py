"""A campaign: its content, its definition and its state."""

import re
from datetime import datetime
from enum import StrEnum
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
"""An organization's, a campaign's or a recipient's id."""


_MOST_NAMED = 100

_DATE_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d")


def _only_text(value: object) -> object:
    """RFC 3339 is text; without this a number would pass as seconds since 1970."""
    if isinstance(value, datetime) or (isinstance(value, str) and _DATE_TIME.match(value)):
        return value
    raise ValueError("must be a date and time in RFC 3339 with an offset")


Timestamp = Annotated[AwareDatetime, BeforeValidator(_only_text)]
"""An instant: RFC 3339 with an offset."""


def _first_fault(value: object) -> object:
    """Pydantic names each fault of a mapping, and a megabyte of faults takes seconds and hundreds
    of megabytes: the first one is enough."""
    if isinstance(value, dict):
        for name, text in value.items():
            if not isinstance(text, str):
                raise ValueError(f"the value of {name[:_MOST_NAMED]!r} must be a string")
    return value


class CampaignName(NamedTuple):
    """A campaign, by the ids of its organization and its own; written ORGANIZATION/CAMPAIGN."""

    organization: str
    campaign_id: str

    def __str__(self) -> str:
        return f"{self.organization}/{self.campaign_id}"


class CampaignState(StrEnum):
    """What is done with a campaign's recipients."""

    ACTIVE = "active"
    PAUSED = "paused"
    CANCELLED = "cancelled"
    COMPLETED = "completed"


class Model(BaseModel):
    """Base of what is read from outside: immutable, unknown fields ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)


class Tag(Model):
    """A tag that Resend shows and hands back in its webhooks."""

    name: str
    value: str


class ResendTemplate(Model):
    """A template that is kept at Resend, and the variables that every recipient shares."""

    id: str
    variables: dict[str, JsonValue] = Field(default_factory=dict)


class Message(Model):
    """What a campaign sends: templates in Jinja's language, or a template kept at Resend.

    The fields carry Resend's names. `html`, `text`, `subject` and the values of `headers` are
    templates, the others are taken as they are.
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
                raise ValueError("template excludes html and text")
        elif self.html is None and self.text is None:
            raise ValueError("at least one of html, text and template is required")
        elif self.subject is None:
            raise ValueError("subject is required")
        return self


class Definition(Message):
    """A campaign as it is created: its ids, its message, and when it starts."""

    start_at: Timestamp | None = None

    organization_id: Id
    campaign_id: Id
