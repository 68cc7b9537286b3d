"""Validation of the body of `POST /emails/batch`."""

from dataclasses import dataclass, field

from streamer.sandbox.errors import RefusalError, parse_json, validation
from streamer.sandbox.rules import ParsedEmail, Rules

MAX_ITEMS = 100


@dataclass(slots=True, frozen=True)
class ItemError:
    """The error of an invalid mail, in permissive mode."""

    index: int
    message: str


@dataclass(slots=True)
class ParsedBatch:
    """The valid mails of a body, and the errors of the others."""

    emails: list[ParsedEmail] = field(default_factory=list)
    errors: list[ItemError] = field(default_factory=list)


def read(body: bytes, rules: Rules, *, permissive: bool) -> ParsedBatch:
    """Validate every mail of a body.

    Raises:
        RefusalError: the whole batch is rejected.
    """
    items = parse_json(body)
    if not isinstance(items, list):
        raise RefusalError(validation("The request body must be an array of emails."))
    if not items:
        raise RefusalError(validation("The batch must have at least one email."))
    if len(items) > MAX_ITEMS:
        raise RefusalError(validation(f"The batch must have at most {MAX_ITEMS} emails."))
    batch = ParsedBatch()
    for index, item in enumerate(items):
        try:
            batch.emails.append(rules.parse(item))
        except RefusalError as error:
            # Strict mode is all or nothing, and its error has no index.
            if not permissive:
                raise
            batch.errors.append(ItemError(index, error.problem.message))
    return batch
