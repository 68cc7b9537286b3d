"""Carries the SDK's calls: one connection for each thread, used through `http.client`.

urllib3 opens the connections, with all that belongs to proxies and certificates. Requests and
responses are left to the standard library, as urllib3's take about twice the CPU time.
"""

import ssl
import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import lru_cache
from http.client import HTTPConnection as PlainConnection
from http.client import HTTPException, HTTPResponse
from io import BytesIO
from threading import local
from typing import Any, cast
from urllib.parse import urlsplit

import urllib3
from resend.http_client import HTTPClient
from urllib3.connection import HTTPConnection
from urllib3.exceptions import HTTPError, SSLError
from urllib3.util import parse_url
from urllib3.util.ssl_match_hostname import CertificateError

from streamer.provider import route


@dataclass(slots=True)
class SdkCall:
    """Input and results of one call that the SDK does not pass through.

    Attributes:
        body: the bytes to send, whatever the SDK was given.
        may_send: called before a connection is opened, and again right before anything is written.
        data: the body of the response.
        untrusted: why a certificate was rejected; nothing was sent in that case.
        sent_at: the monotonic time at which the whole request had been handed to the network.
        withheld: whether nothing was sent because `may_send` returned False.
    """

    key: str
    body: bytes | None
    may_send: Callable[[], bool] = lambda: True
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    data: bytes = b""
    untrusted: str | None = None
    sent_at: float | None = None
    withheld: bool = False


current_call: ContextVar[SdkCall] = ContextVar("current_call")
"""What the SDK is to send. It keeps such data in globals, which threads would share."""


class WithheldError(Exception):
    """The call must no longer be sent."""


class Transport(HTTPClient):
    """Sends calls, each on the connection of its thread.

    Args:
        url: the URL of the API.
        timeout_s: how long a call may take to connect and to be sent, and then how long nothing
            may arrive.

    Raises:
        SettingsError: the environment names an unusable proxy or CA bundle.
    """

    def __init__(self, url: str, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        trust, self._proxy = route.trust(), route.proxy_for(url)
        timeout = urllib3.Timeout(total=timeout_s)
        manager = urllib3.PoolManager(timeout=timeout, ssl_context=trust)
        if self._proxy is not None:
            manager = urllib3.ProxyManager(
                self._proxy.url,
                proxy_headers=self._proxy.headers,
                proxy_ssl_context=trust,
                timeout=timeout,
                ssl_context=trust,
            )
        self._is_tunnelled = self._proxy is not None and parse_url(url).scheme == "https"
        self._pool = manager.connection_from_url(url)
        self._of_thread = local()

    def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        json: dict[str, object] | list[object] | None = None,
        files: dict[str, Any] | None = None,  # part of the SDK's signature; unused
        data: dict[str, str] | None = None,
    ) -> tuple[bytes, int, Mapping[str, str]]:
        """Send the current call.

        Raises:
            WithheldError: it is too late for it.
            OSError, http.client.HTTPException, urllib3.exceptions.HTTPError: no complete response
                arrived. The SDK converts each error to a ResendError.
        """
        del json, files, data  # the pinned bytes are sent instead
        call, until = current_call.get(), time.monotonic() + self._timeout_s
        own = {"Authorization": f"Bearer {call.key}", "Content-Type": "application/json"}
        target, headers = _target(url), {**headers, **own}
        if self._proxy is not None and not self._is_tunnelled:
            target, headers = url, {**self._proxy.headers, **headers}
        connection = self._connection_of_thread()
        try:
            if connection.is_closed:
                _check_time(call)
                self._connect(connection)
            _check_time(call)
            connection.sock.settimeout(_left(until))
            # Not urllib3's methods of the same names.
            PlainConnection.request(connection, method.upper(), target, call.body, headers)
            call.sent_at = time.monotonic()
            connection.sock.settimeout(_left(until))
            response = PlainConnection.getresponse(connection)
            call.data = _decode(response, response.read())
        except (OSError, HTTPException, HTTPError) as error:
            call.untrusted = _untrusted(error, self._whose(connection, url))
            connection.close()  # a late response must not be taken for that of the next call
            raise
        call.status = response.status
        call.headers = {name.lower(): value for name, value in response.getheaders()}
        return call.data, call.status, call.headers

    def _connection_of_thread(self) -> HTTPConnection:
        """Return the thread's connection if the server has not closed it, or an unopened one."""
        connection: HTTPConnection | None = getattr(self._of_thread, "connection", None)
        if connection is None or not connection.is_connected:
            # urllib3 has no public way to open a connection without a request.
            connection = self._of_thread.connection = cast(HTTPConnection, self._pool._new_conn())
        return connection

    def _connect(self, connection: HTTPConnection) -> None:
        if self._is_tunnelled:
            self._pool._prepare_proxy(connection)
        else:
            connection.connect()

    def _whose(self, connection: HTTPConnection, url: str) -> str:
        """Whose certificate was rejected, if one was."""
        is_proxy = self._proxy is not None and not connection.has_connected_to_proxy
        return "the proxy" if is_proxy else urlsplit(url).netloc


def _check_time(call: SdkCall) -> None:
    if not call.may_send():
        call.withheld = True
        raise WithheldError("the call was withheld: its deadline has passed")


def _left(until: float) -> float:
    left_s = until - time.monotonic()
    if left_s <= 0:
        raise TimeoutError("timed out")
    return left_s


@lru_cache(maxsize=8)
def _target(url: str) -> str:
    return parse_url(url).request_uri


def _decode(response: HTTPResponse, data: bytes) -> bytes:
    """Return the body without an encoding, which was not asked for but may come from a proxy."""
    if response.getheader("content-encoding") is None:
        return data
    return urllib3.HTTPResponse(BytesIO(data), dict(response.getheaders())).data


def _untrusted(error: BaseException, whose: str) -> str | None:
    """Return whose certificate was rejected and why, or None if the error has another cause.

    A certificate is rejected during the handshake, before any of the call is sent. Other TLS
    errors, such as a dropped connection, say nothing about the certificate and may be transient.
    """
    cause: object = error
    while isinstance(cause, BaseException):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"the certificate of {whose}: {cause.verify_message or cause}"
        if isinstance(cause, CertificateError):
            return f"the certificate of {whose}: {cause}"
        # urllib3's SSLError holds its cause as an argument and is not always raised from it.
        cause = cause.args[0] if isinstance(cause, SSLError) else cause.__cause__
    return None
