"""Webhooks as Resend signs them, requests to an ASGI application, and the gateway's process."""

import asyncio
import base64
import hmac
import os
import secrets
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import orjson
import urllib3
from starlette.types import ASGIApp, Message

from streamer.gateway.events import NotWrittenError
from streamer.model.mail_event import KeyedEvent

SECRET = "whsec_" + base64.b64encode(b"a signing secret for tests").decode()
OTHER_SECRET = "whsec_" + base64.b64encode(b"another secret for tests").decode()


def signed(body: bytes, event_id: str, at: int, secret: str = SECRET) -> dict[str, str]:
    """Return the headers with which Resend (Svix) signs a webhook."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    mac = hmac.digest(key, f"{event_id}.{at}.".encode() + body, "sha256")
    signature = f"v1,{base64.b64encode(mac).decode()}"
    return {"svix-id": event_id, "svix-timestamp": str(at), "svix-signature": signature}


def webhook(kind: str = "email.delivered", **data: object) -> bytes:
    """Return the body of a webhook."""
    return orjson.dumps(
        {
            "type": kind,
            "created_at": "2026-11-24T03:40:00.123Z",
            "data": {
                "email_id": "4ef9a417-02e9-4d39-ad75-9611e0fcc33c",
                "from": "Acme <news@acme.test>",
                "to": ["ann@example.com"],
                "subject": "Hello",
                "tags": {"organization": "acme", "campaign": "spring-26"},
                **data,
            },
        }
    )


@dataclass
class FakeWriter:
    """Keeps the events instead of writing them."""

    problem: str | None = None
    events: list[KeyedEvent] = field(default_factory=list)
    closed: bool = False

    async def write(self, event: KeyedEvent) -> None:
        """Keep the event, unless there is a problem."""
        if self.problem is not None:
            raise NotWrittenError(self.problem)
        self.events.append(event)

    def close(self) -> None:
        """Finish."""
        self.closed = True


@dataclass(frozen=True)
class Answer:
    """What an application answered."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()


def call(
    app: ASGIApp,
    method: str,
    path: str,
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
    client: str = "192.0.2.1",
) -> Answer:
    """Make one request to an ASGI application, between its start and its end."""
    return asyncio.run(_call(app, method, path, headers or {}, body, client))


async def _call(
    app: ASGIApp, method: str, path: str, headers: Mapping[str, str], body: bytes, client: str
) -> Answer:
    lifespan: asyncio.Queue[Message] = asyncio.Queue()
    ready = asyncio.Event()

    async def on_lifespan(message: Message) -> None:
        assert "failed" not in message["type"], message
        ready.set()

    life = asyncio.ensure_future(app({"type": "lifespan", "state": {}}, lifespan.get, on_lifespan))
    await lifespan.put({"type": "lifespan.startup"})
    await ready.wait()
    sent: list[Message] = []
    requests = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        return requests.pop() if requests else {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    path, _, query = path.partition("?")
    given = {"content-length": str(len(body)), **headers}
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "scheme": "https",
        "headers": [(name.lower().encode(), value.encode()) for name, value in given.items()],
        "client": (client, 1),
        "server": ("gateway.test", 443),
        "state": {},
    }
    await app(scope, receive, send)
    await lifespan.put({"type": "lifespan.shutdown"})
    await life
    start, *rest = sent
    found = {name.decode().lower(): value.decode() for name, value in start["headers"]}
    return Answer(start["status"], found, b"".join(part.get("body", b"") for part in rest))


class GatewayProcess:
    """`streamer gateway` in a process of its own.

    Args:
        environment: the settings.
        command: the arguments of the Python interpreter.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        command: Sequence[str] = ("-m", "streamer", "gateway", "--port", "0"),
    ) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *command],
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline().decode()
        self.url = line.split()[-1]
        self.port = int(self.url.rpartition(":")[2])
        self.http = urllib3.PoolManager(retries=False, maxsize=8)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.http.clear()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
        assert self.process.stdout is not None
        self.process.stdout.close()

    def post_webhook(
        self, body: bytes, at: int, event_id: str | None = None, account: str = "default"
    ) -> int:
        """Send a signed webhook; return the status."""
        headers = signed(body, event_id or f"msg_{secrets.token_hex(8)}", at)
        url = f"{self.url}/webhooks/{account}"
        return self.http.request("POST", url, body=body, headers=headers, timeout=20.0).status

    def stop(self) -> int:
        """Send SIGTERM; return the exit code."""
        self.process.terminate()
        return self.process.wait(30)
