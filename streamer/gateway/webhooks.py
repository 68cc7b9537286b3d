"""Verifying Resend's webhooks."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import cast

import resend
from pydantic import JsonValue

from streamer.errors import InvalidDataError

MAX_BODY = 256 * 1024


class Refusal(StrEnum):
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
            Refusal.UNKNOWN_ACCOUNT: 404,
            Refusal.TOO_LARGE: 413,
            Refusal.NOT_JSON: 400,
        }.get(self, 401)


class RefusedWebhookError(InvalidDataError):
    """The webhook is refused. Nothing of its content is in the message."""

    def __init__(self, refusal: Refusal) -> None:
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
        raise RefusedWebhookError(Refusal.UNSIGNED)
    try:
        text = body.decode()
    except UnicodeDecodeError:
        raise RefusedWebhookError(Refusal.NOT_JSON) from None
    given = {"id": event_id, "timestamp": timestamp, "signature": signature}
    refusal = Refusal.WRONG_SIGNATURE
    for secret in secrets:
        try:
            payload: object = resend.Webhooks.verify(
                {"payload": text, "headers": given, "webhook_secret": secret}  # type: ignore[typeddict-item]  # a dict like its own
            )
        except ValueError as error:
            refusal = _refusal(str(error))
            if refusal is Refusal.WRONG_SIGNATURE:
                continue
            raise RefusedWebhookError(refusal) from None
        if not isinstance(payload, dict):
            raise RefusedWebhookError(Refusal.NOT_JSON)
        return event_id, cast(dict[str, JsonValue], payload)
    raise RefusedWebhookError(refusal)


def _refusal(words: str) -> Refusal:
    """Tell the SDK's errors apart, which only its words do."""
    if "tolerance" in words:
        return Refusal.STALE
    if "parse" in words:
        return Refusal.NOT_JSON
    return Refusal.WRONG_SIGNATURE
