"""Calls to Resend through its SDK, with the exact bytes that were pinned.

The SDK keeps the API key, the URL and the HTTP client in module globals, so threads that set them
would use each other's keys. Instead, a single HTTP client, set once, takes the data of each call
from a context variable, which is separate for each thread.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import orjson
import resend
from resend.exceptions import NoContentError, ResendError

from streamer.provider import route
from streamer.provider.transport import SdkCall, Transport, current_call
from streamer.settings import DEFAULT_API_URL

UNTRUSTED = "untrusted_certificate"
_PAGE = 100

_SHOWN = 200
"""How many bytes to show of a body that is not from Resend."""


@dataclass(frozen=True, slots=True)
class ApiResponse:
    """A response from Resend.

    Attributes:
        status: the HTTP status; None if no complete response arrived.
        name: the error name, such as `validation_error`. Empty for a success or an unnamed error.
            `UNTRUSTED` if there is no response because the certificate was rejected.
        message: the error message, or a description of a body that is not from Resend.
        data: the decoded body of a successful response.
        headers: the response headers, with lower-case names.
        sent_at: the monotonic time at which the whole request had been handed to the network.
            None if it was not, or if that is unknown.
        withheld: whether the call was not sent because it was too late for it.
        is_from_resend: whether the body is JSON in the format of Resend's API. Proxies and
            firewalls in between respond with something else.
    """

    status: int | None
    name: str
    message: str
    data: Mapping[str, object]
    headers: Mapping[str, str]
    sent_at: float | None = None
    withheld: bool = False
    is_from_resend: bool = True


class ResendClient:
    """A thread-safe client of Resend's API for all accounts.

    Create only one per process, since it sets the SDK's globals.

    Args:
        api_url: the URL of the API; empty uses Resend's own.
        timeout_s: the timeout of one call.

    Raises:
        SettingsError: the URL is not encrypted, or the environment names an unusable proxy or CA
            bundle.
    """

    def __init__(self, api_url: str, timeout_s: float) -> None:
        url = api_url or DEFAULT_API_URL
        route.check_url(url)
        resend.api_url = url
        resend.api_key = "set for each call"
        resend.default_http_client = Transport(resend.api_url, timeout_s)

    def send_batch(
        self, key: str, idempotency_key: str, body: bytes, may_send: Callable[[], bool]
    ) -> ApiResponse:
        """POST a batch in permissive mode: an invalid recipient does not reject the others.

        Args:
            may_send: called once the connection is open, right before anything is written; if it
                returns False, the call is withheld.
        """
        options: resend.Batch.SendOptions = {
            "idempotency_key": idempotency_key,
            "batch_validation": "permissive",
        }
        call = SdkCall(key, body, may_send)
        return _perform(call, lambda: resend.Batch.send([], options))

    def check_key(self, key: str) -> ApiResponse:
        """Check a key by listing the account's domains, a call without side effects."""
        return _perform(SdkCall(key, None), resend.Domains.list)

    def suppressions(self, key: str, after: str | None) -> ApiResponse:
        """List a page of the account's suppressions, after the one with this id."""
        params: resend.Suppressions.ListParams = {"limit": _PAGE}
        if after is not None:
            params["after"] = after
        return _perform(SdkCall(key, None), lambda: resend.Suppressions.list(params))

    def suppress(self, key: str, addresses: Sequence[str]) -> ApiResponse:
        """Add up to 100 addresses to the account's suppressions."""
        body = orjson.dumps({"emails": [*addresses]})
        call = SdkCall(key, body)
        return _perform(call, lambda: resend.Suppressions.Batch.add({"emails": [*addresses]}))

    def webhooks(self, key: str) -> ApiResponse:
        """List the account's webhooks."""
        return _perform(SdkCall(key, None), lambda: resend.Webhooks.list({"limit": _PAGE}))

    def webhook_events(self, key: str, webhook_id: str, after: str | None) -> ApiResponse:
        """List a page of a webhook's events, latest first, after the one with this id."""
        params: resend.Webhooks.ListEventsParams = {"limit": _PAGE}
        if after is not None:
            params["after"] = after
        call = SdkCall(key, None)
        return _perform(call, lambda: resend.Webhooks.list_events(webhook_id, params))

    def webhook_event(self, key: str, webhook_id: str, event_id: str) -> ApiResponse:
        """Return an event of a webhook, with its payload."""
        call = SdkCall(key, None)
        return _perform(call, lambda: resend.Webhooks.get_event(webhook_id, event_id))


def _perform(call: SdkCall, method: Callable[[], object]) -> ApiResponse:
    name = message = ""
    data: object = None
    token = current_call.set(call)
    try:
        data = method()
    except ResendError as error:
        name, message = str(error.error_type), str(error.message)
    except NoContentError:
        pass  # a JSON null: a success without data
    finally:
        current_call.reset(token)
    is_from_resend = True
    if call.status is not None:
        content_type = call.headers.get("content-type", "")
        found = _error(call.data) if call.status >= 300 else None
        if found is not None:
            name, message = found  # the SDK rewords some messages and names unnamed errors
        elif call.status >= 300 or "application/json" not in content_type:
            is_from_resend = False
            begin = " ".join(call.data[:_SHOWN].decode(errors="replace").split())
            name, message = (
                "",
                f"not a response of Resend, but {content_type or 'untyped'}: {begin}",
            )
    elif call.untrusted is not None:
        name, message = UNTRUSTED, call.untrusted
    return ApiResponse(
        status=call.status,
        name=name,
        message=message,
        data=data if isinstance(data, dict) else {},
        headers=call.headers,
        sent_at=call.sent_at,
        withheld=call.withheld,
        is_from_resend=is_from_resend,
    )


def _error(body: bytes) -> tuple[str, str] | None:
    """Return name and message of a Resend error, or None if the body is not one."""
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(found, dict):
        return None
    name, message, status = found.get("name"), found.get("message"), found.get("statusCode")
    if not isinstance(message, str) or not (isinstance(name, str) or isinstance(status, int)):
        return None
    return (name if isinstance(name, str) else ""), message
