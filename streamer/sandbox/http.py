"""HTTP/1.1 with keep-alive, as little of it as the sandbox needs."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

JSON = "application/json; charset=utf-8"
_MAX_HEAD = 65_536
_PHRASES: Mapping[int, str] = {each.value: each.phrase for each in HTTPStatus}


@dataclass(slots=True, frozen=True)
class Request:
    """One call. Header names are in lower case; `path` is without its query."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes | bytearray


@dataclass(slots=True, frozen=True)
class Answer:
    """What goes back. An iterator as body is streamed in chunks, at the reader's pace."""

    status: int
    body: bytes | Iterator[bytes] = b""
    content_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)
    cut_at: float | None = None
    """Close the connection after that share of the body; 0: before the first byte of the head."""


Handler = Callable[[Request], Awaitable[Answer]]


class HttpProtocol(asyncio.BufferedProtocol):
    """One connection. Reads straight into the body's buffer: no copy of a 250 KB body."""

    def __init__(self, handler: Handler, connections: set["HttpProtocol"]) -> None:
        self._handler = handler
        self._connections = connections
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._head = bytearray(_MAX_HEAD)
        self._filled = 0
        self._deaf = False
        self._body: bytearray | None = None
        self._body_filled = 0
        self._pending: tuple[str, str, dict[str, str]] | None = None
        self._task: asyncio.Task[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._transport = None
        self._writable.set()
        self._connections.discard(self)

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002
        if self._deaf:
            return memoryview(self._head)
        if self._body is not None:
            return memoryview(self._body)[self._body_filled :]
        return memoryview(self._head)[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        if self._deaf:
            return
        if self._body is not None:
            self._body_filled += nbytes
            self._finish_body()
        else:
            self._filled += nbytes
            self._read_head()

    # Reading.

    def _read_head(self) -> None:
        end = self._head.find(b"\r\n\r\n", 0, self._filled)
        if end < 0:
            if self._filled == _MAX_HEAD:
                self._refuse(431)
            return
        lines = self._head[:end].decode("latin-1").split("\r\n")
        start = lines[0].split(" ")
        if len(start) != 3 or not start[2].startswith("HTTP/1."):
            self._refuse(400)
            return
        headers: dict[str, str] = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        if start[2] == "HTTP/1.0":
            headers.setdefault("connection", "close")
        if "transfer-encoding" in headers:
            self._refuse(411)
            return
        length = headers.get("content-length", "0")
        if not (length.isascii() and length.isdigit()):
            self._refuse(400)
            return
        if headers.get("expect", "").lower() == "100-continue" and self._transport is not None:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._pending = (start[0], start[1].partition("?")[0], headers)
        body = self._body = bytearray(int(length))
        rest = self._head[end + 4 : self._filled]
        self._body_filled = min(len(rest), len(body))
        body[: self._body_filled] = rest[: self._body_filled]
        # What follows the body is the next request of a caller who did not wait.
        beyond = rest[self._body_filled :]
        self._head[: len(beyond)] = beyond
        self._filled = len(beyond)
        self._finish_body()

    def _finish_body(self) -> None:
        if self._body is None or self._pending is None or self._body_filled < len(self._body):
            return
        method, path, headers = self._pending
        request = Request(method, path, headers, self._body)
        self._body = self._pending = None
        self._body_filled = 0
        if self._transport is not None:
            self._transport.pause_reading()
        # The task outlives the connection on purpose: a provider goes on when its caller dies.
        self._task = self._loop.create_task(self._serve(request))
        self._task.add_done_callback(self._served)

    def _refuse(self, status: int) -> None:
        # What the caller still sends is read and dropped: closing with bytes unread would reset
        # the connection, and the caller might never see the answer.
        self._deaf = True
        if self._transport is not None:
            self._transport.write(head_of(status, 0, JSON, {"connection": "close"}))
            self._transport.write_eof()

    # Answering.

    async def _serve(self, request: Request) -> None:
        answer = await self._handler(request)
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if answer.cut_at == 0:
            transport.abort()
            return
        if not isinstance(answer.body, bytes):
            await self._stream(answer, answer.body)
        elif answer.cut_at is not None:
            head = head_of(answer.status, len(answer.body), answer.content_type, answer.headers)
            transport.write(head + answer.body[: int(len(answer.body) * answer.cut_at)])
            transport.close()
            return
        else:
            head = head_of(answer.status, len(answer.body), answer.content_type, answer.headers)
            transport.write(head if request.method == "HEAD" else head + answer.body)
        if request.headers.get("connection", "").lower() == "close":
            transport.close()
            return
        transport.resume_reading()
        if self._filled:
            self._read_head()

    async def _stream(self, answer: Answer, chunks: Iterator[bytes]) -> None:
        head = head_of(answer.status, None, answer.content_type, answer.headers)
        for chunk in _framed(head, chunks):
            await self._writable.wait()
            if self._transport is None:
                return
            self._transport.write(chunk)
            # Lets calls in between the chunks of a long answer.
            await asyncio.sleep(0)

    def _served(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            # A defect of the sandbox itself: say so, and leave no caller waiting.
            self._loop.call_exception_handler(
                {"message": "the sandbox failed to answer", "exception": error, "task": task}
            )
            self.abort()

    def abort(self) -> None:
        """Drop the connection and whatever is being done for it."""
        if self._task is not None:
            self._task.cancel()
        if self._transport is not None:
            self._transport.abort()


def head_of(
    status: int, length: int | None, content_type: str, headers: Mapping[str, str]
) -> bytes:
    """Status line and headers; without a length the body comes in chunks."""
    size = "transfer-encoding: chunked" if length is None else f"content-length: {length}"
    phrase = _PHRASES.get(status, "Unknown")
    lines = [
        f"HTTP/1.1 {status} {phrase}",
        f"content-type: {content_type}",
        size,
    ]
    lines.extend(f"{name}: {value}" for name, value in headers.items())
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _framed(head: bytes, chunks: Iterator[bytes]) -> Iterator[bytes]:
    yield head
    for chunk in chunks:
        if chunk:
            yield b"%x\r\n%b\r\n" % (len(chunk), chunk)
    yield b"0\r\n\r\n"
