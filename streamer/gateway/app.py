"""The ASGI application: Resend's webhooks, the unsubscribe page, and the checks."""

import ipaddress
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Protocol

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, Router

from streamer import metrics
from streamer.gateway.events import NotWrittenError
from streamer.gateway.limits import RequestLimits
from streamer.gateway.page import Pages, PageView
from streamer.gateway.webhooks import MAX_BODY, RefusedWebhookError, WebhookRefusal, verify
from streamer.mail.unsubscribe import InvalidTokenError, UnsubscribeClaim, UnsubscribeLinks
from streamer.model.campaign import CampaignName
from streamer.model.mail_event import (
    EventType,
    KeyedEvent,
    Origin,
    UnreadableEventError,
    event_of_token,
    event_of_webhook,
)
from streamer.provider.accounts import Accounts
from streamer.settings import Settings

_RETRY_S = "30"
_CLOSE = {"Connection": "close"}
_COMMON = {
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex, nofollow",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
_NOTHING = "default-src 'none'; frame-ancestors 'none'"


class Writer(Protocol):
    """Writes events; see `streamer.gateway.events.EventWriter`."""

    problem: str | None

    async def write(self, event: KeyedEvent) -> None:
        """Write an event, and wait until Kafka has it."""

    def close(self) -> None:
        """Finish."""


class Gateway:
    """The handlers of the application.

    Args:
        settings: the settings.
        accounts: give the secrets that sign webhooks.
        links: verifies unsubscribe tokens; None if there are no secrets.
        make_writer: creates the writer, in the event loop.
    """

    def __init__(
        self,
        settings: Settings,
        accounts: Accounts,
        links: UnsubscribeLinks | None,
        make_writer: Callable[[], Writer],
    ) -> None:
        self._topic = settings.topics.recipients
        self._accounts = accounts
        self._links = links
        self._pages = Pages(settings.gateway)
        self._make_writer = make_writer
        self._writer: Writer | None = None
        self._limits = RequestLimits(
            settings.gateway.requests_per_second,
            settings.gateway.requests_per_second_by_address,
            time.monotonic(),
        )

    def app(self) -> Router:
        """Return the application. Without Starlette's own layers, which do nothing here."""
        return Router(
            routes=[
                Route("/webhooks/{account}", self.webhook, methods=["POST"]),
                Route("/u/{token:path}", self.show, methods=["GET"]),
                Route("/u/{token:path}", self.unsubscribe, methods=["POST"]),
                Route("/healthz", _healthz, methods=["GET"]),
                Route("/readyz", self.readyz, methods=["GET"]),
                Route("/metrics", _metrics, methods=["GET"]),
            ],
            lifespan=self._lifespan,
        )

    @asynccontextmanager
    async def _lifespan(self, app: object) -> AsyncIterator[None]:
        del app
        self._writer = self._make_writer()
        try:
            yield
        finally:
            self._writer.close()

    async def webhook(self, request: Request) -> Response:
        """Take a webhook: 200 once Kafka has it."""
        account = request.path_params["account"]
        try:
            secrets = self._accounts.webhook_secrets(account)
            if not secrets:
                raise RefusedWebhookError(WebhookRefusal.UNKNOWN_ACCOUNT)
            body = await _read(request, MAX_BODY)
            if body is None:
                raise RefusedWebhookError(WebhookRefusal.TOO_LARGE)
            event_id, payload = verify(body, request.headers, secrets)
            origin = Origin("webhook", account, event_id, datetime.now(UTC))
            event = event_of_webhook(payload, origin, self._topic)
        except RefusedWebhookError as error:
            return self._refuse(request, error.refusal)
        except UnreadableEventError:
            return self._refuse(request, WebhookRefusal.NOT_JSON)
        except ClientDisconnect:
            return _count("webhook", "disconnected", _text(400, "disconnected"))
        try:
            await self._write(event)
        except NotWrittenError:
            return _count("webhook", "unavailable", _unavailable())
        return _count("webhook", "accepted", _text(200, "ok"))

    async def show(self, request: Request) -> Response:
        """Show the page. Changes nothing: link scanners follow every link."""
        if not self._is_within_limits(request):
            return self._many(request)
        claim = self._claim(request)
        if claim is None:
            return self._unknown(request)
        return _count("page", "shown", self._page(request, 200, PageView.ASK, claim))

    async def unsubscribe(self, request: Request) -> Response:
        """Unsubscribe (RFC 8058, and the page's own form), or undo it."""
        claim = self._claim(request)
        if claim is None:
            if not self._is_within_limits(request):
                return self._many(request)
            return self._unknown(request)
        try:
            body = await _read(request, MAX_BODY)
        except ClientDisconnect:
            return _count("page", "disconnected", _text(400, "disconnected"))
        if body is None:
            return _count("page", "too_large", _text(413, "too large", _CLOSE))
        is_undone = "undo" in request.query_params
        kind = "one_click" if b"List-Unsubscribe" in body else "page"
        event = event_of_token(
            EventType.RESUBSCRIBED if is_undone else EventType.UNSUBSCRIBED,
            CampaignName(claim.organization_id, claim.campaign_id),
            claim.address,
            Origin(kind, None, None, datetime.now(UTC)),
        )
        try:
            await self._write(event)
        except NotWrittenError:
            page = self._page(request, 503, PageView.LATER, claim)
            page.headers["Retry-After"] = _RETRY_S
            return _count("page", "unavailable", page)
        view = PageView.UNDONE if is_undone else PageView.DONE
        return _count("page", event.type, self._page(request, 200, view, claim))

    async def readyz(self, request: Request) -> Response:
        """Say whether events can be written."""
        del request
        problem = "starting" if self._writer is None else self._writer.problem
        return _text(200 if problem is None else 503, problem or "ok")

    async def _write(self, event: KeyedEvent) -> None:
        if self._writer is None:
            raise NotWrittenError("starting")
        await self._writer.write(event)

    def _refuse(self, request: Request, refusal: WebhookRefusal) -> Response:
        if not self._is_within_limits(request):
            return _count("webhook", "limited", _limited())
        return _count("webhook", refusal, _text(refusal.status, refusal.value, _CLOSE))

    def _claim(self, request: Request) -> UnsubscribeClaim | None:
        if self._links is None:
            return None
        try:
            return self._links.verify(request.path_params["token"])
        except InvalidTokenError:
            return None

    def _unknown(self, request: Request) -> Response:
        return _count("page", "unknown", self._page(request, 404, PageView.UNKNOWN))

    def _many(self, request: Request) -> Response:
        page = self._page(request, 429, PageView.MANY)
        page.headers["Retry-After"] = _RETRY_S
        return _count("page", "limited", page)

    def _page(
        self, request: Request, status: int, view: PageView, claim: UnsubscribeClaim | None = None
    ) -> Response:
        organization = None if claim is None else claim.organization_id
        accepted = request.headers.get("accept-language", "")
        page = self._pages.render(view, organization, accepted)
        headers = {
            **_COMMON,
            "Content-Security-Policy": page.policy,
            "Content-Language": page.language,
            "Vary": "Accept-Language",
        }
        return Response(page.body, status, headers, "text/html; charset=utf-8")

    def _is_within_limits(self, request: Request) -> bool:
        return self._limits.take(_network(request), time.monotonic())


async def _healthz(request: Request) -> Response:
    del request
    return _text(200, "ok")


async def _metrics(request: Request) -> Response:
    del request
    return Response(generate_latest(), headers=_COMMON, media_type=CONTENT_TYPE_LATEST)


async def _read(request: Request, limit: int) -> bytes | None:
    """Return the body; None if it is larger than the limit.

    Raises:
        ClientDisconnect: the client has gone.
    """
    length = request.headers.get("content-length", "0")
    if not length.isdecimal() or int(length[:20]) > limit:
        return None
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            return None
    return bytes(body)


def _network(request: Request) -> str:
    """Return the client's address; of IPv6 the first 64 bits, which one client has to itself."""
    host = request.client.host if request.client else ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if address.version == 6:
        return str(ipaddress.ip_network((int(address), 64), strict=False))
    return host


def _text(status: int, text: str, headers: dict[str, str] | None = None) -> Response:
    common = {**_COMMON, "Content-Security-Policy": _NOTHING}
    return PlainTextResponse(f"{text}\n", status, {**common, **(headers or {})})


def _unavailable() -> Response:
    return _text(503, "Kafka is unavailable", {"Retry-After": _RETRY_S})


def _limited() -> Response:
    return _text(429, "too many requests", {"Retry-After": _RETRY_S, **_CLOSE})


def _count(route: str, result: str, response: Response) -> Response:
    metrics.GATEWAY_REQUESTS.labels(route, result).inc()
    return response
