"""The recipient event: the value of an input record."""

from pydantic import Field, JsonValue, ValidationError

from streamer.errors import InvalidDataError
from streamer.model.campaign import Id, Message, Model, Timestamp
from streamer.model.reasons import DeadReason

_MAX_PROBLEMS = 5


class RecipientEvent(Model):
    """One recipient of one campaign. `email` is as given and may be invalid."""

    organization_id: Id
    campaign_id: Id
    recipient_id: Id
    email: str
    name: str | None = None
    variables: dict[str, JsonValue] = Field(default_factory=dict)
    expires_at: Timestamp | None = None
    message: Message | None = None


class DeadEventError(InvalidDataError):
    """The value is not a recipient event; `reason` and the message say why."""

    def __init__(self, reason: DeadReason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def parse(value: bytes | None) -> RecipientEvent:
    """Parse the value of an input record.

    Raises:
        DeadEventError: `undecodable` if the value is empty, not UTF-8 or not JSON;
            `invalid_event` if it is not a recipient event, naming the first invalid fields.
    """
    if not value:
        raise DeadEventError(DeadReason.UNDECODABLE, "the record has no value")
    try:
        return RecipientEvent.model_validate_json(value)
    except ValidationError as error:
        raise _explain(error) from None


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
