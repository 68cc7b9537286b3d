"""HTTP connections that slow and hostile clients cannot hold.

uvicorn limits neither the time in which a request arrives nor the size of its headers nor, without
answers of 503 to all, the number of connections.
"""

from asyncio import TimerHandle
from collections import OrderedDict
from typing import ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from streamer import metrics

REQUEST_S = 10.0
"""A request must have arrived as a whole within this time."""
MAX_HEADER_BYTES = 32_768


class GuardedProtocol(HttpToolsProtocol):
    """A connection that is closed if a request does not arrive in time, if its headers are too
    large, or if there are too many connections and it has waited longest for a request.
    """

    max_connections: ClassVar[int]
    waiting: ClassVar[OrderedDict["GuardedProtocol", None]]
    _deadline: TimerHandle | None = None
    _header_bytes = 0
    _in_headers = True

    def connection_made(self, transport) -> None:  # type: ignore[no-untyped-def]  # as uvicorn's
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._await_request()
        if len(self.connections) > self.max_connections and self.waiting:
            next(iter(self.waiting)).cut("crowded_out")

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count what precedes the body."""
        if self._in_headers:
            self._header_bytes += len(data)
        super().data_received(data)
        if self._in_headers and self._header_bytes > MAX_HEADER_BYTES:
            self.cut("headers_too_large")

    def on_message_begin(self) -> None:
        """Begin to wait for the rest of a request."""
        super().on_message_begin()
        if self._deadline is None:
            self._await_request()

    def on_headers_complete(self) -> None:
        """The headers are here; the body has its own limit."""
        self._in_headers, self._header_bytes = False, 0
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The request is here."""
        self._in_headers = True
        self._stop_waiting()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Wait for the next request; uvicorn limits that time."""
        super().on_response_complete()
        if self._deadline is None and not self.transport.is_closing():
            self.waiting[self] = None

    def cut(self, why: str) -> None:
        """Close the connection at once."""
        metrics.GATEWAY_CUT.labels(why).inc()
        self._stop_waiting()
        self.transport.abort()

    def _await_request(self) -> None:
        self._deadline = self.loop.call_later(REQUEST_S, self.cut, "slow")
        self.waiting[self] = None

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        self.waiting.pop(self, None)


def guarded(max_connections: int) -> type[GuardedProtocol]:
    """Return the protocol for one server."""

    class ServerProtocol(GuardedProtocol):
        pass

    ServerProtocol.max_connections = max_connections
    ServerProtocol.waiting = OrderedDict()
    return ServerProtocol
