"""Calls to Resend through its SDK, with the exact bytes that were pinned.

The SDK keeps the key, the URL and the HTTP client in module globals, so threads that set them
would send each other's keys. Here one HTTP client, set once, takes what belongs to a call from
a context variable, which each thread has to itself. It also keeps connections open.
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
"""Bytes of a body that is not Resend's."""


@dataclass(slots=True)
class _Call:
    """What one call needs beside what the SDK passes on, and what it found.

    Attributes:
        error: the name and the words of the error, if the body was one of Resend's.
        foreign: the beginning of a body that is not Resend's.
        untrusted: what is wrong with the certificate that was shown; nothing was sent then.
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
    """The call may not leave any more."""


_call: ContextVar[_Call] = ContextVar("call")


@dataclass(frozen=True, slots=True)
class ApiResponse:
    """What came back from Resend.

    Attributes:
        status: the HTTP status; None if no answer arrived whole.
        name: the error's name, as `validation_error`; empty for a success, and for an error
            that has none. Where no answer arrived, `UNTRUSTED` if that is why.
        message: the error's words; of what is not Resend's, what it is.
        data: the decoded body of a success.
        headers: the answer's headers, their names in lower case.
        sent_at: when the whole request had been handed to the network; monotonic clock. None if
            it was not, or that is not known.
        withheld: whether the call did not leave, as it was too late for it.
        is_from_resend: whether it is JSON as Resend's API writes it. A proxy or a firewall on the
            way answers with something else.
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
    """Resend's API for all accounts; its methods may be called from any thread.

    There is one in a process, as the SDK's globals are.

    Args:
        api_url: where the API is.
        timeout_s: how long one call may take.
        connections: calls at a time for which connections are kept open.

    Raises:
        SettingsError: the environment names a proxy or a CA bundle that cannot be used.
    """

    def __init__(self, api_url: str, timeout_s: float, connections: int) -> None:
        resend.api_url = api_url or DEFAULT_API_URL
        resend.api_key = "set for each call"
        resend.default_http_client = _PooledClient(resend.api_url, timeout_s, connections)

    def send_batch(
        self, key: str, idempotency_key: str, body: bytes, may_send: Callable[[], bool]
    ) -> ApiResponse:
        """POST a batch, in permissive mode: one bad recipient does not refuse the others.

        Args:
            may_send: is asked when the connection stands, right before anything is written.
        """
        options: resend.Batch.SendOptions = {
            "idempotency_key": idempotency_key,
            "batch_validation": "permissive",
        }
        call = _Call(key, body, may_send=may_send)
        return _perform(call, lambda: resend.Batch.send([], options))

    def check_key(self, key: str) -> ApiResponse:
        """List the account's domains: a call that changes nothing, to see what the key is worth."""
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
        pass  # JSON's null: a success without data
    finally:
        _call.reset(token)
    if call.error is not None:
        name, message = call.error  # the SDK has words of its own for some, and a name for all
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
    """Asks whether a call may leave, and notes when its request was on its way: a connection may
    have had to be opened first. Through a tunnel it asks twice: before the tunnel is asked for,
    and before the call."""

    def send(self, data: Any) -> None:  # http.client's own, whatever it takes
        if self.sock is None:  # type: ignore[attr-defined]  # mixed into a connection
            self.connect()  # type: ignore[attr-defined]  # likewise
        call = _call.get()
        if not call.may_send():
            call.withheld = True
            raise _WithheldError("it is too late for this call")
        super().send(data)  # type: ignore[misc]

    def request(self, *args: Any, **kwargs: Any) -> None:  # urllib3's own, whatever it takes
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
    """The SDK's transport, over connections that stay open."""

    def __init__(self, url: str, timeout_s: float, connections: int) -> None:
        self._pool = _manager(url, timeout_s, connections)
        self._pool.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}

    def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        json: dict[str, object] | list[object] | None = None,
        files: dict[str, Any] | None = None,  # the SDK's own signature; never used here
        data: dict[str, str] | None = None,
    ) -> tuple[bytes, int, Mapping[str, str]]:
        """Send the call of this thread's context.

        Raises:
            urllib3.exceptions.HTTPError: no answer arrived whole. The SDK makes a ResendError
                of it.
        """
        del json, files, data  # what is sent is what was pinned, to the byte
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
            call.foreign = f"not Resend's answer, but {content_type or 'of no type'}: {begin}"
        return response.data, response.status, response.headers


def _manager(url: str, timeout_s: float, connections: int) -> urllib3.PoolManager:
    """The connections to a URL, through a proxy if the environment names one."""
    trust = route.trust()
    proxy = route.proxy_for(url)
    timeout = urllib3.Timeout(total=timeout_s)
    # A call is repeated by whoever knows its idempotency key, and nothing is redirected.
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
    """Whose certificate was not trusted, and why; None if that is not what failed.

    It is refused in the handshake, before anything of the call is sent. Other trouble with TLS,
    as a connection that is cut, says nothing of the certificate, and may be over soon.
    """
    whose = "the proxy" if isinstance(error, ProxyError) else urlsplit(url).netloc
    cause: object = error
    while isinstance(cause, BaseException):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"the certificate of {whose}: {cause.verify_message or cause}"
        if isinstance(cause, CertificateError):
            return f"the certificate of {whose}: {cause}"
        # urllib3's own is given what it stands for, and not always raised from it.
        cause = cause.args[0] if isinstance(cause, SSLError) else cause.__cause__
    return None


def _error(body: bytes) -> tuple[str, str] | None:
    """The name and the words of an error as Resend writes it; None if the body is none."""
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
