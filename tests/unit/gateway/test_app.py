"""The application: what is taken, what is refused, and what is written."""

import time
from collections.abc import Callable

import orjson
import pytest
from starlette.types import ASGIApp

from streamer.gateway.app import Gateway
from streamer.mail.unsubscribe import UnsubscribeLinks
from streamer.provider.accounts import Accounts
from streamer.settings import AccountSettings, GatewaySettings, Settings
from tests.kit.gateway import OTHER_SECRET, SECRET, Answer, FakeWriter, call, signed, webhook

_LINKS = UnsubscribeLinks("https://example.com/u", [b"a secret for tests alone"])
_TOKEN = _LINKS.sign("acme", "spring-26", "ann@example.com")
_FOREIGN = UnsubscribeLinks("https://example.com/u", [b"another secret for tests"])
_ONE_CLICK = b"List-Unsubscribe=One-Click"


class Site:
    """The application with a writer that keeps."""

    def __init__(self, **changes: float) -> None:
        gateway = GatewaySettings(names={"acme": "Acme Ltd."}, **changes)
        account = AccountSettings(webhook_secret_env="WEBHOOK_SECRET")
        accounts = {"default": account, "silent": AccountSettings(organizations=["x"])}
        settings = Settings(gateway=gateway, accounts=accounts)
        self.writer = FakeWriter()
        app = Gateway(settings, Accounts(accounts), _LINKS, lambda: self.writer).app()
        self.app: ASGIApp = app

    def webhook(self, body: bytes, account: str = "default", **headers: str) -> Answer:
        """Send a signed webhook."""
        own = signed(body, "msg_1", int(time.time()))
        return call(self.app, "POST", f"/webhooks/{account}", {**own, **headers}, body)

    @property
    def types(self) -> list[str]:
        """The types of what was written."""
        return [event.type for event in self.writer.events]


@pytest.fixture
def make_site(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Site]:
    monkeypatch.setenv("WEBHOOK_SECRET", f"{OTHER_SECRET} {SECRET}")
    return Site


@pytest.fixture
def site(make_site: Callable[..., Site]) -> Site:
    return make_site()


def test_a_webhook_is_written(site: Site) -> None:
    assert site.webhook(webhook("email.bounced")).status == 200
    (event,) = site.writer.events
    assert event.type == "bounced"
    assert orjson.loads(event.value)["origin"]["event_id"] == "msg_1"
    assert site.writer.closed


def test_a_webhook_of_an_unknown_type_is_written(site: Site) -> None:
    assert site.webhook(webhook("email.new")).status == 200
    assert site.types == ["email.new"]


@pytest.mark.parametrize(
    ("status", "account", "body", "headers"),
    [
        (404, "nobody", webhook(), {}),
        (404, "silent", webhook(), {}),
        (401, "default", webhook(), {"svix-signature": "v1,bm8="}),
        (401, "default", webhook(), {"svix-timestamp": "1"}),
        (401, "default", webhook(), {"svix-id": ""}),
        (400, "default", b"no json", {}),
        (400, "default", b"[]", {}),
        (400, "default", b"{}", {}),
        (413, "default", webhook(more="x" * 256 * 1024), {}),
        (413, "default", webhook(), {"content-length": "9" * 30}),
        (413, "default", webhook(), {"content-length": "x"}),
    ],
)
def test_what_is_refused(
    site: Site, status: int, account: str, body: bytes, headers: dict[str, str]
) -> None:
    assert site.webhook(body, account, **headers).status == status
    assert site.types == []


def test_a_webhook_that_kafka_does_not_take_is_sent_again(site: Site) -> None:
    site.writer.problem = "all brokers are down"
    answer = site.webhook(webhook())
    assert (answer.status, "retry-after" in answer.headers) == (503, True)
    assert call(site.app, "GET", "/readyz").status == 503


def test_get_never_unsubscribes(site: Site) -> None:
    answer = call(site.app, "GET", f"/u/{_TOKEN}", {"accept-language": "de"})
    assert (answer.status, site.types) == (200, [])
    assert "Acme Ltd." in answer.text
    assert "Abmelden" in answer.text
    assert "ann@example.com" not in answer.text
    assert answer.headers["content-language"] == "de"
    assert call(site.app, "HEAD", f"/u/{_TOKEN}").status == 200
    assert call(site.app, "PUT", f"/u/{_TOKEN}").status == 405
    assert site.types == []


@pytest.mark.parametrize("body", [_ONE_CLICK, b"", b"x"])
def test_post_unsubscribes(site: Site, body: bytes) -> None:
    answer = call(site.app, "POST", f"/u/{_TOKEN}", body=body)
    assert (answer.status, site.types) == (200, ["unsubscribed"])
    value = orjson.loads(site.writer.events[0].value)
    assert (value["organization_id"], value["campaign_id"]) == ("acme", "spring-26")
    assert value["address"] == "ann@example.com"
    assert value["origin"]["kind"] == ("one_click" if body == _ONE_CLICK else "page")
    assert "undo" in answer.text


def test_post_undoes(site: Site) -> None:
    answer = call(site.app, "POST", f"/u/{_TOKEN}?undo")
    assert (answer.status, site.types) == (200, ["resubscribed"])
    assert "You stay subscribed" in answer.text


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_token_of_others_has_the_same_page_as_none(site: Site, method: str) -> None:
    foreign = _FOREIGN.sign("acme", "spring-26", "ann@example.com")
    pages: set[bytes] = set()
    for token in (foreign, _TOKEN[:-1], f"{_TOKEN}A", "", "x", "a/b/c", "\udcff", "2..", "2.a.b"):
        path = f"/u/{token}".encode("utf-8", "surrogateescape").decode("latin-1")
        answer = call(site.app, method, path, client=f"192.0.2.{len(pages)}")
        assert answer.status == 404
        pages.add(answer.body)
        site = Site()
    assert len(pages) == 1
    assert site.types == []


def test_the_page_says_so_if_kafka_is_away(site: Site) -> None:
    site.writer.problem = "all brokers are down"
    answer = call(site.app, "POST", f"/u/{_TOKEN}")
    assert answer.status == 503
    assert "Nothing has changed yet" in answer.text


def test_headers_keep_the_page_private(site: Site) -> None:
    for path in (f"/u/{_TOKEN}", "/u/x", "/healthz"):
        headers = call(site.app, "GET", path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["x-robots-tag"].startswith("noindex")
        assert headers["cache-control"] == "no-store"
        assert headers["x-content-type-options"] == "nosniff"


def test_only_refused_requests_and_pages_are_limited(make_site: Callable[..., Site]) -> None:
    site = make_site(requests_per_second_by_address=0.5)
    assert call(site.app, "GET", "/u/x").status == 404
    assert call(site.app, "GET", "/u/x").status == 429
    assert call(site.app, "GET", f"/u/{_TOKEN}").status == 429
    assert call(site.app, "POST", "/u/x").status == 429
    assert site.webhook(webhook(), "nobody").status == 429
    assert site.webhook(webhook()).status == 200
    assert call(site.app, "POST", f"/u/{_TOKEN}").status == 200
    assert call(site.app, "GET", "/u/x", client="2001:db8::1").status == 404
    assert call(site.app, "GET", "/u/x", client="2001:db8::2").status == 429
    assert call(site.app, "GET", "/u/x", client="2001:db8:0:1::2").status == 404


def test_checks_and_metrics(site: Site) -> None:
    assert call(site.app, "GET", "/healthz").status == 200
    assert call(site.app, "GET", "/readyz").status == 200
    site.webhook(webhook())
    text = call(site.app, "GET", "/metrics").text
    assert 'streamer_gateway_requests_total{result="accepted",route="webhook"}' in text
    assert call(site.app, "GET", "/").status == 404
