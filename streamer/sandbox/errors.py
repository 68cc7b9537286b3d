"""Resend's error responses: statuses, names and messages."""

from collections.abc import Mapping
from dataclasses import dataclass

import orjson

from streamer.sandbox.faults import Faults, KeyRefusal
from streamer.sandbox.http import HttpResponse

INVALID_TO = (
    "Invalid `to` field. The email address needs to follow the `email@example.com` or "
    "`Name <email@example.com>` format."
)


@dataclass(slots=True, frozen=True)
class Problem:
    """The error of a rejected call. With an empty name, the body has no `name` field."""

    status: int
    name: str
    message: str

    def body(self) -> bytes:
        body: dict[str, object] = {"statusCode": self.status, "message": self.message}
        return orjson.dumps({**body, "name": self.name} if self.name else body)

    def answer(self) -> HttpResponse:
        return HttpResponse(self.status, self.body())


class RefusalError(Exception):
    """A call, or one mail of a batch, is rejected."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


def key_refusal(faults: Faults) -> Problem | None:
    """Return the error for all API keys, if the faults define one."""
    return _KEY_REFUSALS.get(faults.refuse_key)


def validation(message: str, status: int = 422) -> Problem:
    return Problem(status, "validation_error", message)


def missing(*fields: str) -> Problem:
    """Return the error for a mail with none of these fields."""
    names = " or ".join(f"`{field}`" for field in fields)
    return Problem(422, "missing_required_field", f"Missing {names} field.")


def invalid_address(field: str) -> Problem:
    """Return the error for a field with an invalid address."""
    return validation(INVALID_TO.replace("`to`", f"`{field}`"))


def invalid_type(field: str) -> Problem:
    return validation(f"The `{field}` field has the wrong type.")


def parse_json(body: bytes) -> object:
    """Decode a request body.

    Raises:
        RefusalError: the body is not valid JSON.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        raise RefusalError(validation("The request body is not valid JSON.", 400)) from None


def not_found(what: str) -> Problem:
    return Problem(404, "not_found", f"{what} not found")


def too_fast(limit: int) -> Problem:
    return Problem(
        429,
        "rate_limit_exceeded",
        f"Too many requests. You can only make {limit} requests per second. See rate limit "
        "response headers for more information. Or contact support to increase rate limit.",
    )


def forbidden(domain: str) -> Problem:
    return Problem(403, "", f"This API key is not authorized to send emails from {domain}")


def unverified(domain: str) -> Problem:
    return validation(
        f"The {domain} domain is not verified. Please, add and verify your domain on "
        "https://resend.com/domains",
        403,
    )


MISSING_KEY = Problem(401, "missing_api_key", "Missing API key in the authorization header.")
UNKNOWN_KEY = Problem(403, "invalid_api_key", "API key is invalid.")
_KEY_REFUSALS: Mapping[KeyRefusal, Problem] = {
    "missing_api_key": MISSING_KEY,
    "restricted_api_key": Problem(403, "restricted_api_key", "API key is not active"),
    "invalid_api_key": UNKNOWN_KEY,
    "suspended_api_key": Problem(403, "suspended_api_key", "This API key is suspended."),
    "invalid_permission": Problem(
        403, "invalid_permission", "This API key has no permission for this action."
    ),
    "validation_error": validation("API key is invalid", 400),
}
EXAMPLE_DOMAIN = validation(
    "Invalid `to` field. Please use our testing email address instead of domains like "
    "`example.com`."
)
SENDING_ONLY = Problem(401, "restricted_api_key", "This API key is restricted to only send emails")
DAILY_QUOTA = Problem(
    429, "daily_quota_exceeded", "You have reached your daily email sending quota."
)
MONTHLY_QUOTA = Problem(
    429, "monthly_quota_exceeded", "You have reached your monthly email sending quota."
)
INVALID_IDEMPOTENCY_KEY = Problem(
    400, "invalid_idempotency_key", "The key must be between 1-256 chars."
)
OTHER_PAYLOAD = Problem(
    409,
    "invalid_idempotent_request",
    "Same idempotency key used with a different request payload.",
)
STILL_RUNNING = Problem(
    409,
    "concurrent_idempotent_requests",
    "Same idempotency key used while original request is still in progress.",
)
APPLICATION_ERROR = Problem(500, "application_error", "An unexpected error occurred.")
UNAVAILABLE = Problem(503, "service_unavailable", "The service is temporarily unavailable.")
NOT_FOUND = Problem(404, "not_found", "The requested endpoint does not exist.")
FOREIGN_PAGE = Problem(403, "foreign_page", "The call comes from a web page of another site.")
METHOD_NOT_ALLOWED = Problem(
    405, "method_not_allowed", "This endpoint does not support the specified HTTP method."
)
