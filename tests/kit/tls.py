"""A server that accepts every batch, with or without TLS, and proxies in front of it.

The certificates in `certificates/` were generated once with OpenSSL, for a throwaway key that
secures nothing: `ca.pem` signed `trusted.pem`, `expired.pem` and `other_host.pem` (which is
for other.test); `self_signed.pem` signed itself. All but the last two are for resend.test and
127.0.0.1. They are valid from 2024 to 2124, `expired.pem` to the end of 2023.
"""

import select
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import orjson
import urllib3

CERTIFICATES = Path(__file__).parent / "certificates"
CA = CERTIFICATES / "ca.pem"


class TlsRequest(NamedTuple):
    """A request to a server or a proxy, with lower-case header names."""

    line: str
    headers: dict[str, str]
    body: bytes


class TlsServer:
    """Listens on a free port of 127.0.0.1, and accepts every batch of one mail.

    Args:
        certificate: the certificate's name without `.pem`; None for plain HTTP.

    Attributes:
        requests: the received requests, in order.
    """

    def __init__(self, certificate: str | None = None) -> None:
        self.requests: list[TlsRequest] = []
        self.scheme = "http" if certificate is None else "https"
        self._server = _Listener(("127.0.0.1", 0), _handler(self.answer))
        if certificate is not None:
            self.present(certificate)

    def present(self, certificate: str) -> None:
        """Present a certificate on new connections."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(CERTIFICATES / f"{certificate}.pem", CERTIFICATES / "key.pem")
        self._server.context = context

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        """The value of `RESEND_API_URL` without a proxy."""
        return f"{self.scheme}://127.0.0.1:{self.port}"

    @property
    def connections(self) -> int:
        """How many connections were accepted so far."""
        return len(self._server.accepted)

    def hang_up(self) -> None:
        """Close all connections."""
        for connection in self._server.accepted:
            with suppress(OSError):  # closed before
                connection.shutdown(socket.SHUT_RDWR)

    def answer(self, handler: BaseHTTPRequestHandler, request: TlsRequest) -> None:
        """Respond to a request."""
        self.requests.append(request)
        reply(handler, 200, orjson.dumps({"data": [{"id": "id-1"}]}))

    @contextmanager
    def running(self) -> Iterator[None]:
        """Serve until the end of the block."""
        thread = Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()


class TlsProxy(TlsServer):
    """A forward proxy that passes every call to one upstream, whatever its host.

    Args:
        refusal: a status to respond to every call with, instead of forwarding it.
        on_connect: called before a tunnel is opened.
    """

    def __init__(
        self,
        upstream: TlsServer,
        refusal: int | None = None,
        certificate: str | None = None,
        on_connect: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(certificate)
        self._upstream = upstream
        self._on_connect = on_connect
        self.refusal = refusal

    def answer(self, handler: BaseHTTPRequestHandler, request: TlsRequest) -> None:
        self.requests.append(request)
        if self.refusal is not None:
            page = f"<html><h1>{self.refusal}</h1></html>".encode()
            reply(handler, self.refusal, page, "text/html")
        elif request.line.startswith("CONNECT "):
            self._on_connect()
            self._tunnel(handler)
        else:
            self._forward(handler, request)

    def _tunnel(self, handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        handler.close_connection = True
        with socket.create_connection(("127.0.0.1", self._upstream.port)) as upstream:
            client = handler.connection
            with suppress(OSError):
                while True:
                    pending = isinstance(client, ssl.SSLSocket) and client.pending() > 0
                    ready = [client] if pending else select.select([client, upstream], [], [])[0]
                    for one in ready:
                        data = one.recv(65_536)
                        if not data:
                            return
                        (upstream if one is client else client).sendall(data)

    def _forward(self, handler: BaseHTTPRequestHandler, request: TlsRequest) -> None:
        method, url, _ = request.line.split(" ", 2)
        passed = {k: v for k, v in request.headers.items() if not k.startswith("proxy-")}
        answer = urllib3.request(
            method, self._upstream.url + urlsplit(url).path, body=request.body, headers=passed
        )
        reply(handler, answer.status, answer.data, answer.headers["content-type"])


def reply(
    handler: BaseHTTPRequestHandler,
    status: int,
    body: bytes,
    content_type: str = "application/json; charset=utf-8",
) -> None:
    """Write a response."""
    handler.send_response(status)
    handler.send_header("content-type", content_type)
    handler.send_header("content-length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    context: ssl.SSLContext | None = None

    def __init__(self, *args: Any) -> None:  # socketserver signature
        super().__init__(*args)
        self.accepted: list[socket.socket] = []

    def finish_request(self, request: Any, client_address: Any) -> None:  # socketserver signature
        with ExitStack() as stack:
            stack.enter_context(suppress(OSError))  # clients that reject the certificate hang up
            if self.context is not None:
                request = stack.enter_context(self.context.wrap_socket(request, server_side=True))
            self.accepted.append(request)
            super().finish_request(request, client_address)


def _handler(
    answer: Callable[[BaseHTTPRequestHandler, TlsRequest], None],
) -> type[BaseHTTPRequestHandler]:
    class TlsHandler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            body = self.rfile.read(int(headers.get("content-length", "0")))
            answer(self, TlsRequest(self.requestline, headers, body))

        do_GET = do_POST = do_CONNECT = _serve  # noqa: N815 - http.server's names

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
            """Disable logging."""

    return TlsHandler
