"""What is written for others to read, as models: outcomes, dead letters' headers, results.

`streamer.model.wire` writes the first two. The JSON Schemas in `schemas/` are made from these
models and those of what is read, so a change here is a change of the contract: within a version
only new optional fields.
"""

from typing import Annotated, Self

from pydantic import ConfigDict, Field, StringConstraints, model_validator

from streamer.model import wire
from streamer.model.campaign import Id, Model, Timestamp
from streamer.model.reasons import DeadReason, Reason, Status
from streamer.model.record import Coordinates

Count = Annotated[int, Field(ge=0)]
DecimalText = Annotated[str, StringConstraints(pattern=r"^[0-9]+$")]


class Published(Model):
    """Base of what is written for others."""

    model_config = ConfigDict(use_attribute_docstrings=True)


class PublishedSource(Published):
    """Where an input record first stood; it is known by these coordinates for ever."""

    topic: str
    partition: Count
    offset: Count


class PublishedOutcome(Published):
    """What became of an input record that names a campaign: exactly one for each."""

    organization_id: Id
    campaign_id: Id
    recipient_id: Id
    email: str
    """The normalised address; as it was given if it is none."""
    status: Status
    reason: Reason | None
    """Null only for `sent`; each reason belongs to one status."""
    detail: str | None
    """The cause in words; Resend's own for `rejected`."""
    email_id: str | None
    """Resend's id, for `sent` alone."""
    batch_id: str | None
    """The batch that carried the mail, where there was one."""
    attempts: Count
    """Calls to Resend that this ending took."""
    occurred_at: Timestamp
    source: PublishedSource

    @property
    def coordinates(self) -> Coordinates:
        """Where the input record first stood."""
        return Coordinates(self.source.topic, self.source.partition, self.source.offset)

    @model_validator(mode="after")
    def _is_of_one_piece(self) -> Self:
        expected = Status.SENT if self.reason is None else self.reason.status
        if self.status is not expected:
            raise ValueError(f"{self.status} does not go with the reason {self.reason}")
        if (self.email_id is not None) != (self.status is Status.SENT):
            raise ValueError("email_id is for sent, and sent alone")
        return self


class DeadLetterHeaders(Published):
    """What the headers of a dead letter say, beside those that the record had; all are UTF-8."""

    reason: Annotated[DeadReason, Field(alias=wire.REASON)]
    detail: Annotated[str, Field(alias=wire.DETAIL)]
    """The cause in words."""
    source_topic: Annotated[str, Field(alias=wire.SOURCE_TOPIC)]
    source_partition: Annotated[DecimalText, Field(alias=wire.SOURCE_PARTITION)]
    source_offset: Annotated[DecimalText, Field(alias=wire.SOURCE_OFFSET)]


class PublishedResult(Published):
    """The summary of a finished campaign."""

    organization_id: Id
    campaign_id: Id
    expected: Count | None
    """Recipients that there should be; null if nobody said."""
    total: Count
    """Recipients that there were."""
    sent: Count
    skipped: Count
    failed: Count
    indeterminate: Count
    dead: Count
    """Dead letters that name the campaign."""
    reasons: dict[str, Count]
    """How many ended for each reason."""
    started_at: Timestamp | None
    """When the first one ended; null if there was none."""
    finished_at: Timestamp | None
    """When the last one ended; null if there was none."""
    per_second: Annotated[float, Field(ge=0)] | None
    """From the first to the last; null if that took no time."""
