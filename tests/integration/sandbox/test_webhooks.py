"""Webhooks of what becomes of the mails: signed, repeated, and again until they are taken."""

import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import orjson
import pytest
from pydantic import JsonValue

from streamer.gateway.webhooks import verify
from streamer.sandbox import DEFAULT_WEBHOOK_SECRET, Faults, SandboxProcess
from tests.integration.sandbox.client import Client, mail, wait_until


class Receiver:
    """Takes webhooks, but not the first ones.

    Attributes:
        failures: how many to answer with 503 before.
        taken: what was verified and taken, by id.
    """

    def __init__(self) -> None:
        self.failures = 0
        self.taken: list[tuple[str, dict[str, JsonValue]]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                if receiver.failures > 0:
                    receiver.failures -= 1
                    status = 503
                else:
                    receiver.taken.append(verify(body, headers, [DEFAULT_WEBHOOK_SECRET]))
                    status = 200
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}/webhooks/default"

    def types(self) -> Counter[str]:
        """The types of the distinct events."""
        return Counter(str(payload["type"]) for payload in dict(self.taken).values())


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    one = Receiver()
    yield one
    one.server.shutdown()
    one.server.server_close()


@pytest.fixture
def eager() -> Iterator[SandboxProcess]:
    """A sandbox that does not wait long before it sends a webhook again."""
    with SandboxProcess(limit=None, webhook_retries_s=[0.05] * 20) as process:
        yield process


def _all_sent(sandbox: SandboxProcess) -> bool:
    return sandbox.stats().webhooks_pending == 0


def test_each_mail_has_its_events(eager: SandboxProcess, receiver: Receiver) -> None:
    eager.send_webhooks(receiver.url)
    eager.suppress("eve@example.com")
    addresses = [
        "ann@example.com",
        "bounced@resend.dev",
        "complained@resend.dev",
        "eve@example.com",
    ]
    answer = Client(eager.url).send([mail(address) for address in addresses])
    receiver.failures = 3
    wait_until(lambda: _all_sent(eager))
    assert receiver.types() == {
        "email.sent": 4,
        "email.delivered": 2,
        "email.bounced": 1,
        "email.complained": 1,
        "email.suppressed": 1,
    }
    for _, payload in receiver.taken:
        data = payload["data"]
        assert isinstance(data, dict)
        assert data["email_id"] in answer.ids
        assert data["tags"] == {"campaign": "spring", "organization": "acme"}


def test_shares_repeats_and_disorder(eager: SandboxProcess, receiver: Receiver) -> None:
    eager.send_webhooks(receiver.url)
    eager.set_faults(
        Faults(
            bounced_percent=20,
            opened_percent=50,
            repeated_percent=30,
            delayed_percent=10,
            disorder_ms=300,
        )
    )
    Client(eager.url).send([mail(f"user{number}@example.com") for number in range(100)])
    wait_until(lambda: _all_sent(eager))
    types = receiver.types()
    assert types["email.sent"] == 100
    assert types["email.bounced"] + types["email.delivered"] == 100
    assert 5 < types["email.bounced"] < 40
    assert 15 < types["email.opened"] < 70
    assert 0 < types["email.delivery_delayed"] < 30
    assert len(receiver.taken) > sum(types.values())
    created = [str(payload["created_at"]) for _, payload in receiver.taken]
    assert created != sorted(created)


def test_mails_that_fail_later_say_so(eager: SandboxProcess, receiver: Receiver) -> None:
    eager.send_webhooks(receiver.url)
    eager.set_faults(Faults(fail_later=True, quota="daily"))
    Client(eager.url).send([mail()], permissive=True)
    wait_until(lambda: _all_sent(eager))
    ((_, payload),) = receiver.taken
    assert payload["type"] == "email.failed"
    assert b"daily_quota_exceeded" in orjson.dumps(payload)


def test_the_page_unsubscribes_by_one_click(eager: SandboxProcess) -> None:
    client = Client(eager.url)
    link = "https://mail.example.com/u/2.a.b"
    headers = {
        "List-Unsubscribe": f"<{link}>",
        "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
    }
    (with_link, without) = client.send([mail(headers=headers), mail()]).ids
    page = client.call("GET", f"/mails/{with_link}")
    assert f'<form method="post" action="{link}">'.encode() in page.raw
    assert "form-action https://mail.example.com;" in page.headers["content-security-policy"]
    page = client.call("GET", f"/mails/{without}")
    assert b"<form" not in page.raw
    assert "form-action 'none'" in page.headers["content-security-policy"]
