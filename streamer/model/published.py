"""Models of published data: outcomes, dead letter headers, progress, campaign results, mail events.

`streamer.model.wire` writes the first two, `streamer.model.progress` the third,
`streamer.model.mail_event` the last. The JSON Schemas in
`schemas/` are generated from these models and the input models, so a change here changes the
contract: within a version, only add optional fields.
"""

from typing import Annotated, Self

from pydantic import (
    ConfigDict,
    Field,
    JsonValue,
    StrictInt,
    StringConstraints,
    model_validator,
)

from streamer.model import wire
from streamer.model.campaign import Id, Model, Timestamp
from streamer.model.reasons import DeadReason, Reason, Status
from streamer.model.record import RecordId

Count = Annotated[int, Field(ge=0)]
DecimalText = Annotated[str, StringConstraints(pattern=r"^[0-9]+$")]


class Published(Model):
    """Base class for published data."""

    model_config = ConfigDict(use_attribute_docstrings=True)


class PublishedSource(Published):
    """The original topic, partition and offset of an input record: its permanent id."""

    topic: str
    partition: Count
    offset: Count


class PublishedOutcome(Published):
    """The result of an input record that names a campaign; each has exactly one."""

    organization_id: Id
    campaign_id: Id
    recipient_id: Id
    email: str
    """The normalised address, or the address as given if it is invalid."""
    status: Status
    reason: Reason | None
    """Null only for `sent`; each reason belongs to one status."""
    detail: str | None
    """The cause in words; for `rejected`, Resend's message."""
    email_id: str | None
    """Resend's id for the mail; only for `sent`."""
    batch_id: str | None
    """The batch that carried the mail, if any."""
    attempts: Count
    """How many calls to Resend were made."""
    occurred_at: Timestamp
    source: PublishedSource

    @property
    def record_id(self) -> RecordId:
        """The original topic, partition and offset of the input record."""
        return RecordId(self.source.topic, self.source.partition, self.source.offset)

    @model_validator(mode="after")
    def _is_of_one_piece(self) -> Self:
        expected = Status.SENT if self.reason is None else self.reason.status
        if self.status is not expected:
            raise ValueError(f"status {self.status} does not match reason {self.reason}")
        if (self.email_id is not None) != (self.status is Status.SENT):
            raise ValueError("email_id must be set if and only if the status is sent")
        return self


class DeadLetterHeaders(Published):
    """Headers added to those of a record when it becomes a dead letter; all are UTF-8."""

    reason: Annotated[DeadReason, Field(alias=wire.REASON)]
    detail: Annotated[str, Field(alias=wire.DETAIL)]
    """The cause in words."""
    source_topic: Annotated[str, Field(alias=wire.SOURCE_TOPIC)]
    source_partition: Annotated[DecimalText, Field(alias=wire.SOURCE_PARTITION)]
    source_offset: Annotated[DecimalText, Field(alias=wire.SOURCE_OFFSET)]


OutcomeTime = Annotated[
    str, StringConstraints(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}\.[0-9]{3}Z$")
]


class PublishedProgress(Published):
    """What one transaction added to a campaign's counts: they are the sum of its records."""

    organization_id: Id
    campaign_id: Id
    counts: dict[str, StrictInt]
    """Amounts to add: `sent`; `skipped`, `failed`, `indeterminate` and `dead` (dead letters), each
    with a colon and the reason; `parked`, by how many more are set aside and have not ended since,
    which may be negative."""
    first: OutcomeTime | None
    """Time of the earliest outcome; null if there was none."""
    last: OutcomeTime | None
    """Time of the latest outcome; null if there was none."""


class PublishedResult(Published):
    """The summary of a finished campaign."""

    organization_id: Id
    campaign_id: Id
    expected: Count | None
    """Expected number of recipients; null if it was not given."""
    total: Count
    """Actual number of recipients."""
    sent: Count
    skipped: Count
    failed: Count
    indeterminate: Count
    dead: Count
    """Dead letters that name the campaign."""
    reasons: dict[str, Count]
    """Number of outcomes by reason."""
    started_at: Timestamp | None
    """Time of the first outcome; null if there was none."""
    finished_at: Timestamp | None
    """Time of the last outcome; null if there was none."""
    per_second: Annotated[float, Field(ge=0)] | None
    """Average rate from the first to the last outcome; null if they are simultaneous."""
    events: dict[str, Count] = Field(default_factory=dict)
    """Number of recipients by what became of their mail since: `delivered`, `delayed`,
    `bounced_permanent`, `bounced_transient`, `complained`, `opened`, `clicked`, `failed_later`,
    `suppressed`, `unsubscribed`. The summary is written again as they change."""


class PublishedOrigin(Published):
    """Where a mail event came from."""

    kind: str
    """`webhook`, `page` or `one_click` (an unsubscribe link), or `backfill`."""
    account: str | None
    """The account at Resend; null for an unsubscribe link."""
    event_id: str | None
    """Names the event, also when it is repeated: Resend's `svix-id`."""
    received_at: Timestamp


class PublishedMailEvent(Published):
    """What became of a mail after it was sent, or that its recipient unsubscribed.

    The same event may come several times; `origin.event_id` tells.
    """

    type: str
    """`sent`, `scheduled`, `delivered`, `delayed`, `bounced`, `complained`, `suppressed`, `failed`,
    `opened`, `clicked`, `unsubscribed`, `resubscribed`; any other is Resend's own name."""
    occurred_at: Timestamp
    organization_id: Id | None
    """Null if the tags do not tell, see `source`."""
    campaign_id: Id | None
    source: PublishedSource | None
    """The input record of the recipient, as in the outcome; null for an unsubscribe link, and for
    mails of earlier versions."""
    address: str | None
    """The normalised address, or the address as given if it is invalid."""
    email_id: str | None
    """Resend's id for the mail; null for an unsubscribe link."""
    details: dict[str, str]
    """`bounce_type` (`Permanent`, `Transient`, `Undetermined`), `bounce_subtype`, `message`,
    `diagnostic`, `link`, `reason`, `sender_domain`, `suppression_type`: those that there are."""
    tags: dict[str, str]
    """The mail's tags."""
    origin: PublishedOrigin
    data: dict[str, JsonValue] | None = None
    """What Resend sent, for types of its own; null for the others."""

    @property
    def record_id(self) -> RecordId | None:
        """The original topic, partition and offset of the input record, if known."""
        source = self.source
        return None if source is None else RecordId(source.topic, source.partition, source.offset)
