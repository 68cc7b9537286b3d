"""Calls to Resend through its SDK, with the exact bytes that were pinned.

The SDK keeps the API key, the URL and the HTTP client in module globals, so threads that set them
would use each other's keys. Instead, a single HTTP client, set once, takes the data of each call
from a context variable, which is separate for each thread. It also keeps connections open.
"""

import ssl
import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import orjson
import resend
import urllib3
from resend.exceptions import NoContentError, ResendError
from resend.http_client import HTTPClient
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError, ProxyError, SSLError
from urllib3.util.ssl_match_hostname import CertificateError

from streamer.provider import route
from streamer.settings import DEFAULT_API_URL

UNTRUSTED = "untrusted_certificate"

_SHOWN = 200
"""How many bytes to show of a body that is not from Resend."""


@dataclass(slots=True)
class _Call:
    """Input and results of one call that the SDK does not pass through.

    Attributes:
        error: name and message of the error, if the body is a Resend error.
        foreign: the beginning of a body that is not from Resend.
        untrusted: why the server's certificate was rejected; nothing was sent in that case.
    """

    key: str
    body: bytes | None
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    error: tuple[str, str] | None = None
    foreign: str | None = None
    untrusted: str | None = None
    sent_at: float | None = None
    may_send: Callable[[], bool] = lambda: True
    withheld: bool = False


class _WithheldError(Exception):
    """The call must no longer be sent."""


_call: ContextVar[_Call] = ContextVar("call")


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
        connections: the number of connections to keep open for concurrent calls.

    Raises:
        SettingsError: the URL is not encrypted, or the environment names an unusable proxy or CA
            bundle.
    """

    def __init__(self, api_url: str, timeout_s: float, connections: int) -> None:
        url = api_url or DEFAULT_API_URL
        route.check_url(url)
        resend.api_url = url
        resend.api_key = "set for each call"
        resend.default_http_client = _PooledClient(resend.api_url, timeout_s, connections)

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
        call = _Call(key, body, may_send=may_send)
        return _perform(call, lambda: resend.Batch.send([], options))

    def check_key(self, key: str) -> ApiResponse:
        """Check a key by listing the account's domains, a call without side effects."""
        return _perform(_Call(key, None), resend.Domains.list)


def _perform(call: _Call, method: Callable[[], object]) -> ApiResponse:
    name = message = ""
    data: object = None
    token = _call.set(call)
    try:
        data = method()
    except ResendError as error:
        name, message = str(error.error_type), str(error.message)
    except NoContentError:
        pass  # a JSON null: a success without data
    finally:
        _call.reset(token)
    if call.error is not None:
        name, message = call.error  # the SDK rewords some messages and names unnamed errors
    elif call.foreign is not None:
        name, message = "", call.foreign
    elif call.untrusted is not None:
        name, message = UNTRUSTED, call.untrusted
    return ApiResponse(
        status=call.status,
        name=name,
        message=message,
        data=data if isinstance(data, dict) else {},
        headers={key.lower(): value for key, value in call.headers.items()},
        sent_at=call.sent_at,
        withheld=call.withheld,
        is_from_resend=call.foreign is None,
    )


class _SendTracking:
    """Checks `may_send` once the connection is open, and records when the request was sent.

    Through a tunnel it checks twice: before requesting the tunnel, and before the call.
    """

    def send(self, data: Any) -> None:  # same signature as http.client's
        if self.sock is None:  # type: ignore[attr-defined]  # mixed into a connection
            self.connect()  # type: ignore[attr-defined]  # likewise
        call = _call.get()
        if not call.may_send():
            call.withheld = True
            raise _WithheldError("the call was withheld: its deadline has passed")
        super().send(data)  # type: ignore[misc]

    def request(self, *args: Any, **kwargs: Any) -> None:  # same signature as urllib3's
        super().request(*args, **kwargs)  # type: ignore[misc]  # mixed into a connection
        _call.get().sent_at = time.monotonic()


class _TrackedConnection(_SendTracking, HTTPConnection):
    pass


class _TrackedSecureConnection(_SendTracking, HTTPSConnection):
    pass


class _Pool(HTTPConnectionPool):
    ConnectionCls = _TrackedConnection


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _TrackedSecureConnection


class _PooledClient(HTTPClient):
    """Transport for the SDK with persistent connections."""

    def __init__(self, url: str, timeout_s: float, connections: int) -> None:
        self._pool = _manager(url, timeout_s, connections)
        self._pool.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}

    def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        json: dict[str, object] | list[object] | None = None,
        files: dict[str, Any] | None = None,  # part of the SDK's signature; unused
        data: dict[str, str] | None = None,
    ) -> tuple[bytes, int, Mapping[str, str]]:
        """Send the call in the current context.

        Raises:
            urllib3.exceptions.HTTPError: no complete response arrived. The SDK converts it to a
                ResendError.
        """
        del json, files, data  # the pinned bytes are sent instead
        call = _call.get()
        try:
            response = self._pool.request(
                method.upper(),
                url,
                body=call.body,
                headers={
                    **headers,
                    "Authorization": f"Bearer {call.key}",
                    "Content-Type": "application/json",
                },
            )
        except HTTPError as error:
            call.untrusted = _untrusted(error, url)
            raise
        call.status = response.status
        call.headers = response.headers
        content_type = response.headers.get("content-type", "")
        if response.status >= 300:
            call.error = _error(response.data)
            is_from_resend = call.error is not None
        else:
            is_from_resend = "application/json" in content_type
        if not is_from_resend:
            begin = " ".join(response.data[:_SHOWN].decode(errors="replace").split())
            call.foreign = f"not a response of Resend, but {content_type or 'untyped'}: {begin}"
        return response.data, response.status, response.headers


def _manager(url: str, timeout_s: float, connections: int) -> urllib3.PoolManager:
    """Return a connection manager for a URL, through a proxy if the environment names one."""
    trust = route.trust()
    proxy = route.proxy_for(url)
    timeout = urllib3.Timeout(total=timeout_s)
    # No retries here: the caller retries with the idempotency key. Redirects are not followed.
    if proxy is None:
        return urllib3.PoolManager(
            maxsize=connections, timeout=timeout, retries=False, ssl_context=trust
        )
    return urllib3.ProxyManager(
        proxy.url,
        proxy_headers=proxy.headers,
        proxy_ssl_context=trust,
        maxsize=connections,
        timeout=timeout,
        retries=False,
        ssl_context=trust,
    )


def _untrusted(error: HTTPError, url: str) -> str | None:
    """Return whose certificate was rejected and why, or None if the error has another cause.

    A certificate is rejected during the handshake, before any of the call is sent. Other TLS
    errors, such as a dropped connection, say nothing about the certificate and may be transient.
    """
    whose = "the proxy" if isinstance(error, ProxyError) else urlsplit(url).netloc
    cause: object = error
    while isinstance(cause, BaseException):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"certificate of {whose}: {cause.verify_message or cause}"
        if isinstance(cause, CertificateError):
            return f"certificate of {whose}: {cause}"
        # urllib3's SSLError holds its cause as an argument and is not always raised from it.
        cause = cause.args[0] if isinstance(cause, SSLError) else cause.__cause__
    return None


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
