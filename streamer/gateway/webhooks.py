"""Verifying Resend's webhooks."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import cast

import resend
from pydantic import JsonValue

from streamer.errors import InvalidDataError

MAX_BODY = 256 * 1024


class WebhookRefusal(StrEnum):
    """Why a webhook is refused."""

    UNKNOWN_ACCOUNT = "unknown_account"
    TOO_LARGE = "too_large"
    UNSIGNED = "unsigned"
    WRONG_SIGNATURE = "wrong_signature"
    STALE = "stale"
    NOT_JSON = "not_json"

    @property
    def status(self) -> int:
        """The status of the answer."""
        return {
            WebhookRefusal.UNKNOWN_ACCOUNT: 404,
            WebhookRefusal.TOO_LARGE: 413,
            WebhookRefusal.NOT_JSON: 400,
        }.get(self, 401)


class RefusedWebhookError(InvalidDataError):
    """The webhook is refused. Nothing of its content is in the message."""

    def __init__(self, refusal: WebhookRefusal) -> None:
        super().__init__(refusal.value)
        self.refusal = refusal


def verify(
    body: bytes, headers: Mapping[str, str], secrets: Sequence[str]
) -> tuple[str, dict[str, JsonValue]]:
    """Verify the signature over the raw body; return the `svix-id` and the content.

    Raises:
        RefusedWebhookError: it is not signed with any of the secrets, too old, or not a JSON
            object.
    """
    event_id, timestamp, signature = (
        headers.get(f"svix-{name}", "") for name in ("id", "timestamp", "signature")
    )
    if not (event_id and timestamp and signature and body):
        raise RefusedWebhookError(WebhookRefusal.UNSIGNED)
    try:
        text = body.decode()
    except UnicodeDecodeError:
        raise RefusedWebhookError(WebhookRefusal.NOT_JSON) from None
    given = {"id": event_id, "timestamp": timestamp, "signature": signature}
    refusal = WebhookRefusal.WRONG_SIGNATURE
    for secret in secrets:
        try:
            payload: object = resend.Webhooks.verify(
                {"payload": text, "headers": given, "webhook_secret": secret}  # type: ignore[typeddict-item]  # a dict like its own
            )
        except ValueError as error:
            refusal = _refusal(str(error))
            if refusal is WebhookRefusal.WRONG_SIGNATURE:
                continue
            raise RefusedWebhookError(refusal) from None
        if not isinstance(payload, dict):
            raise RefusedWebhookError(WebhookRefusal.NOT_JSON)
        return event_id, cast(dict[str, JsonValue], payload)
    raise RefusedWebhookError(refusal)


def _refusal(words: str) -> WebhookRefusal:
    """Tell the SDK's errors apart, which only its words do."""
    if "tolerance" in words:
        return WebhookRefusal.STALE
    if "parse" in words:
        return WebhookRefusal.NOT_JSON
    return WebhookRefusal.WRONG_SIGNATURE
