"""Resend's error answers: names, statuses and words."""

from collections.abc import Mapping
from dataclasses import dataclass

import orjson

from streamer.sandbox.http import Answer

INVALID_TO = (
    "Invalid `to` field. The email address needs to follow the `email@example.com` or "
    "`Name <email@example.com>` format."
)
_KEY_REFUSALS: Mapping[str, tuple[int, str]] = {
    "missing_api_key": (401, "Missing API key in the authorization header."),
    "restricted_api_key": (401, "This API key is restricted to only send emails."),
    "invalid_api_key": (403, "API key is invalid."),
    "suspended_api_key": (403, "This API key is suspended."),
    "invalid_permission": (403, "This API key has no permission for this action."),
}


@dataclass(slots=True, frozen=True)
class Problem:
    """Why a call is refused. An error without a name has none in its body either."""

    status: int
    name: str
    message: str

    def body(self) -> bytes:
        body: dict[str, object] = {"statusCode": self.status, "message": self.message}
        return orjson.dumps({**body, "name": self.name} if self.name else body)

    def answer(self) -> Answer:
        return Answer(self.status, self.body())


def key_refusal(name: str) -> Problem:
    """The refusal of an API key by its name in Resend's list."""
    status, message = _KEY_REFUSALS[name]
    return Problem(status, name, message)


def validation(message: str, status: int = 422) -> Problem:
    return Problem(status, "validation_error", message)


def missing(field: str) -> Problem:
    return Problem(422, "missing_required_field", f"Missing `{field}` field.")


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
METHOD_NOT_ALLOWED = Problem(
    405, "method_not_allowed", "This endpoint does not support the specified HTTP method."
)
