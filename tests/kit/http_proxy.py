"""A proxy in front of the sandbox that can fail any call or respond in its place."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

import orjson

from tests.kit.local_server import LocalServer, abort
from tests.kit.points import PointKind, Script
from tests.kit.redis_proxy import ENDS, FROZEN_S

CLIENT_WAITS_S = 1.0
LATE_S = 2.0
"""Longer than the `delivery.timeout_s` of the client, `CLIENT_WAITS_S`."""

_JSON = "application/json; charset=utf-8"
_PAGE = b"<html><head><title>Error</title></head><body><h1>Error</h1></body></html>"
_WAY = (
    "request_lost",
    "request_late",
    "reply_lost",
    "reply_late",
    "reset",
    "reset_after",
    "cut_head",
    "cut_body",
)


class Canned(NamedTuple):
    """A response to give in place of the sandbox's.

    Attributes:
        taken: whether the call is first forwarded to the sandbox, which accepts the mails.
        may_fail: whether it may be handled as a rejection of the mails' content.
        is_conflict: whether it leaves the fate of the mails unknown.
    """

    status: int
    body: bytes
    content_type: str = _JSON
    headers: tuple[tuple[str, str], ...] = ()
    taken: bool = False
    may_fail: bool = False
    is_conflict: bool = False


def _problem(status: int, name: str | None, message: str, **changes: object) -> Canned:
    words = {"statusCode": status, "message": message, "name": name}
    body = orjson.dumps({key: word for key, word in words.items() if word is not None})
    return Canned(status, body)._replace(**changes)  # type: ignore[arg-type]  # fields of Canned


def _text(status: int, text: str) -> Canned:
    return Canned(status, text.encode(), "text/plain")


def _page(status: int, **changes: object) -> Canned:
    return Canned(status, _PAGE, "text/html")._replace(**changes)  # type: ignore[arg-type]  # as above


ANSWERS: dict[str, Canned] = {
    # From Resend's reference
    "429 rate_limit_exceeded": _problem(
        429, "rate_limit_exceeded", "Too many requests.", headers=(("retry-after", "1"),)
    ),
    "429 rate_limit_exceeded, bare": _problem(429, "rate_limit_exceeded", "Too many requests."),
    "500 application_error": _problem(500, "application_error", "An unexpected error occurred."),
    "500 internal_server_error": _problem(500, "internal_server_error", "Internal server error"),
    "503 service_unavailable": _problem(503, "service_unavailable", "Temporarily unavailable."),
    "500 after it was taken": _problem(500, "application_error", "Unexpected.", taken=True),
    "409 concurrent_idempotent_requests": _problem(
        409, "concurrent_idempotent_requests", "The original request is still in progress."
    ),
    "409 resource_locked": _problem(409, "resource_locked", "The resource is locked."),
    "409 invalid_idempotent_request": _problem(
        409, "invalid_idempotent_request", "Used with a different payload.", is_conflict=True
    ),
    "429 daily_quota_exceeded": _problem(429, "daily_quota_exceeded", "Daily quota reached."),
    "429 monthly_quota_exceeded": _problem(429, "monthly_quota_exceeded", "Monthly quota reached."),
    "400 validation_error": _problem(400, "validation_error", "Invalid field.", may_fail=True),
    "422 validation_error": _problem(422, "validation_error", "Invalid field.", may_fail=True),
    "403 domain not verified": _problem(
        403, "validation_error", "The acme.test domain is not verified."
    ),
    "401 missing_api_key": _problem(401, "missing_api_key", "Missing API key."),
    "403 invalid_api_key": _problem(403, "invalid_api_key", "API key is invalid."),
    "401 restricted_api_key": _problem(
        401, "restricted_api_key", "This API key is restricted to only send emails."
    ),
    "403 restricted_api_key": _problem(403, "restricted_api_key", "API key is not active"),
    "403 suspended_api_key": _problem(403, "suspended_api_key", "This API key is suspended."),
    "403 invalid_permission": _problem(403, "invalid_permission", "No permission."),
    "422 missing_required_field": _problem(
        422, "missing_required_field", "Missing `html` or `text` field.", may_fail=True
    ),
    "422 invalid_parameter": _problem(422, "invalid_parameter", "Invalid.", may_fail=True),
    "422 invalid_attachment": _problem(422, "invalid_attachment", "Invalid.", may_fail=True),
    "404 not_found": _problem(404, "not_found", "The requested endpoint does not exist."),
    "405 method_not_allowed": _problem(405, "method_not_allowed", "Not supported."),
    "400 invalid_idempotency_key": _problem(400, "invalid_idempotency_key", "1-256 chars."),
    # Seen in practice
    "400 API key is invalid": _problem(400, "validation_error", "API key is invalid"),
    "401 API key is invalid": _problem(401, "validation_error", "API key is invalid"),
    "403 not authorized for the domain": _problem(
        403, None, "This API key is not authorized to send emails from acme.test"
    ),
    "404 template": _problem(404, "not_found", "Template not found", may_fail=True),
    "422 missing_required_parameter": _problem(
        422, "missing_required_parameter", "Missing.", may_fail=True
    ),
    "422 invalid_from_address": _problem(422, "invalid_from_address", "Invalid.", may_fail=True),
    "422 invalid_access": _problem(422, "invalid_access", "No access.", may_fail=True),
    "422 invalid_region": _problem(422, "invalid_region", "Invalid region.", may_fail=True),
    "403 email_above_quota": _problem(403, "email_above_quota", "Above quota."),
    "451 security_error": _problem(451, "security_error", "Refused for security."),
    "422 local_rate_limited": _text(422, "local_rate_limited"),
    "402": _text(402, "Payment Required"),
    "406": _text(406, "Not Acceptable"),
    "411": _text(411, "Length Required"),
    "413": _text(413, "Payload Too Large"),
    "421": _text(421, "Misdirected Request"),
    "423": _text(423, "Locked"),
    "431": _text(431, "Request Header Fields Too Large"),
    "451": _text(451, "Unavailable For Legal Reasons"),
    "408": _text(408, "Request Timeout"),
    # From proxies and firewalls, and malformed responses
    "200 HTML": _page(200),
    "200 HTML after it was taken": _page(200, taken=True),
    "301 HTML": _page(301, headers=(("location", "/elsewhere"),)),
    "400 HTML": _page(400),
    "401 HTML": _page(401),
    "403 HTML": _page(403),
    "403 cloudflare": _text(403, "error code: 1010"),
    "404 HTML": _page(404),
    "407 HTML": _page(407),
    "422 HTML": _page(422),
    "429 HTML": _page(429),
    "502 HTML": _page(502),
    "504 HTML": _page(504),
    "520 HTML": _page(520),
    "200 empty": Canned(200, b""),
    "200 empty after it was taken": Canned(200, b"", taken=True),
    "204": Canned(204, b""),
    "400 empty": Canned(400, b""),
    "500 empty": Canned(500, b""),
    "200 null": Canned(200, b"null"),
    "200 {}": Canned(200, b"{}", taken=True),
    "200 half a JSON": Canned(200, b'{"data":[{"id":', taken=True),
    "200 without ids": Canned(200, b'{"data":[],"errors":[]}', taken=True),
    "200 nulls": Canned(200, b'{"data":[null,null,null,null,null],"errors":[]}', taken=True),
}
FAULTS = (*_WAY, *ANSWERS, *ENDS)
FAULTS_OF_THE_WAY = (*_WAY, *ENDS)


class HttpProxy(LocalServer):
    """Listens on a free port of 127.0.0.1, in the running event loop.

    Args:
        port: the sandbox's port.
        arrived: called with the idempotency key of each forwarded call.
    """

    def __init__(
        self, port: int, script: Script, arrived: Callable[[str], None] = lambda key: None
    ) -> None:
        super().__init__()
        self._upstream = port
        self._script = script
        self._arrived = arrived

    @property
    def url(self) -> str:
        """The value of `RESEND_API_URL`."""
        return f"http://127.0.0.1:{self.port}"

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (request := await _read_message(reader)) is not None:
                if not await self._answer(request, writer):
                    await reader.read()  # until the client disconnects
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _answer(self, request: bytes, writer: asyncio.StreamWriter) -> bool:
        """Respond to one call; return False if the connection must not be used any more."""
        line = request.partition(b"\r\n")[0].decode("latin-1")
        method, path, _ = line.split(" ", 2)
        name = "post" if method == "POST" else f"{method}({path.partition('?')[0]})"
        fault = self._script.at(PointKind.HTTP, name) or ""
        canned = ANSWERS.get(fault)
        if fault in ("reset", "death"):
            if fault == "death":
                self._script.kill()
            abort(writer)
            return False
        if fault == "request_lost":
            return False
        if fault in ("freeze", "freeze_after"):
            self._script.freeze()
        if fault in ("request_late", "freeze"):
            await asyncio.sleep(LATE_S if fault == "request_late" else FROZEN_S)
        reply = b"" if canned is not None and not canned.taken else await self._ask(request)
        if fault in ("reset_after", "death_after"):
            if fault == "death_after":
                self._script.kill()
            abort(writer)
            return False
        if fault in ("reply_lost", "request_late"):
            return False
        if fault == "reply_late":
            await asyncio.sleep(LATE_S)
        if canned is not None:
            reply = _bytes_of(canned)
        if fault in ("cut_head", "cut_body"):
            head = reply.index(b"\r\n\r\n") + 4
            end = head // 2 if fault == "cut_head" else head + (len(reply) - head) // 2
            writer.write(reply[:end])
            await writer.drain()
            writer.close()
            return False
        with suppress(ConnectionError):
            writer.write(reply)
            await writer.drain()
        return True

    async def _ask(self, request: bytes) -> bytes:
        head = request.partition(b"\r\n\r\n")[0].decode("latin-1")
        for line in head.split("\r\n"):
            word, _, value = line.partition(":")
            if word.lower() == "idempotency-key":
                self._arrived(value.strip())
        reader, writer = await asyncio.open_connection("127.0.0.1", self._upstream)
        try:
            writer.write(request)
            reply = await _read_message(reader)
            if reply is None:
                raise ConnectionResetError
            return reply
        finally:
            writer.close()


def _bytes_of(canned: Canned) -> bytes:
    headers = [("content-type", canned.content_type), *canned.headers]
    if canned.status != 204:
        headers.append(("content-length", str(len(canned.body))))
    lines = [f"HTTP/1.1 {canned.status} Played", *(f"{name}: {value}" for name, value in headers)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + canned.body


async def _read_message(reader: asyncio.StreamReader) -> bytes | None:
    """Read a request or response with a `content-length`; None at the end of the connection."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise
        return None
    length = 0
    for line in head.decode("latin-1").split("\r\n"):
        word, _, value = line.partition(":")
        if word.lower() == "content-length":
            length = int(value)
    return head + await reader.readexactly(length)
