"""A minimal HTTP/1.1 server with keep-alive on asyncio streams."""

import asyncio
import hashlib
from base64 import b64encode
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus

JSON = "application/json; charset=utf-8"
MAX_HEAD = 65_536
"""The `limit` of the streams passed to `serve_connection`."""
_PHRASES: Mapping[int, str] = {each.value: each.phrase for each in HTTPStatus}


@dataclass(slots=True, frozen=True)
class Request:
    """A request. Header names are in lower case; `path` and `query` are percent-encoded."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    query: str = ""


@dataclass(slots=True, frozen=True)
class HttpResponse:
    """A response."""

    status: int
    body: bytes = b""
    content_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)
    """Names are in lower case. `date` and `etag` replace the server's own."""
    cut_at: float | None = None
    """Close the connection after this fraction of the body; 0: before sending anything."""
    chunks: Iterator[bytes] | None = None
    """If set, streamed as the body, with backpressure."""


class _BadRequestError(Exception):
    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


async def serve_connection(
    handler: Callable[[Request], Awaitable[HttpResponse]],
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    wall: Callable[[], float],
) -> None:
    """Serve the requests of one connection in sequence, until either side closes it.

    A request is processed even if the client disconnects in the meantime, as at a real provider.

    Args:
        wall: the clock for the `date` header.
    """
    # Suppress CancelledError on shutdown: Python 3.11 streams log an error for cancelled tasks.
    with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
        try:
            is_open = True
            while is_open:
                request = await _read(reader, writer)
                is_open = await _write(writer, request, await handler(request), wall)
        except _BadRequestError as error:
            writer.write(_head(HttpResponse(error.status, headers={"connection": "close"}), wall()))
            writer.write_eof()
            # Drain the rest of the request: closing with unread bytes would reset the connection,
            # and the client might never see the response.
            while await reader.read(MAX_HEAD):
                pass
        finally:
            writer.close()


async def _read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Request:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError:
        raise _BadRequestError(431) from None
    start, *lines = head[:-4].decode("latin-1").split("\r\n")
    words = start.split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        raise _BadRequestError(400)
    headers: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    if words[2] == "HTTP/1.0":
        headers.setdefault("connection", "close")
    encoding = headers.get("transfer-encoding", "").lower()
    if encoding not in ("", "chunked"):
        raise _BadRequestError(501)
    length = headers.get("content-length", "0")
    if not encoding and not (length.isascii() and length.isdigit()):
        raise _BadRequestError(400)
    if headers.get("expect", "").lower() == "100-continue":
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    body = await (_read_chunks(reader) if encoding else reader.readexactly(int(length)))
    path, _, query = words[1].partition("?")
    return Request(words[0], path, headers, body, query)


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    """Read a chunked body, ignoring chunk extensions and trailers."""
    body = bytearray()
    try:
        while size := int((await reader.readuntil(b"\r\n")).partition(b";")[0], 16):
            body += await reader.readexactly(size)
            if await reader.readexactly(2) != b"\r\n":
                raise _BadRequestError(400)
        while await reader.readuntil(b"\r\n") != b"\r\n":
            pass
    except (ValueError, asyncio.LimitOverrunError):
        raise _BadRequestError(400) from None
    return bytes(body)


async def _write(
    writer: asyncio.StreamWriter,
    request: Request,
    response: HttpResponse,
    wall: Callable[[], float],
) -> bool:
    """Write a response; return whether the connection stays open."""
    if writer.is_closing():
        return False
    if response.cut_at == 0:
        writer.transport.abort()
        return False
    if response.chunks is None:
        share = 0 if request.method == "HEAD" else 1 if response.cut_at is None else response.cut_at
        writer.write(_head(response, wall()) + response.body[: int(len(response.body) * share)])
    else:
        writer.write(_head(response, wall()))
        for chunk in response.chunks:
            writer.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
            await writer.drain()
            # Let other requests run between the chunks of a long response.
            await asyncio.sleep(0)
        writer.write(b"0\r\n\r\n")
    await writer.drain()
    return response.cut_at is None and request.headers.get("connection", "").lower() != "close"


def _head(response: HttpResponse, wall: float) -> bytes:
    """Return the status line and headers."""
    headers = {"content-type": response.content_type, "date": _date(int(wall))}
    if response.chunks is None:
        headers["content-length"] = str(len(response.body))
        headers["etag"] = _etag(response.body)
    else:
        headers["transfer-encoding"] = "chunked"
    lines = [
        f"HTTP/1.1 {response.status} {_PHRASES.get(response.status, 'Unknown')}",
        *(f"{name}: {value}" for name, value in {**headers, **response.headers}.items()),
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


@lru_cache(maxsize=1)
def _date(second: int) -> str:
    return formatdate(second, usegmt=True)


def _etag(body: bytes) -> str:
    """Return an ETag in Resend's format: weak, with the body's length and SHA-1."""
    digest = b64encode(hashlib.sha1(body, usedforsecurity=False).digest()).decode()
    return f'W/"{len(body):x}-{digest[:27]}"'
