"""The network between here and Resend: certificates, and the proxies that the environment names."""

import base64
import gzip
import logging
import os
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from threading import Barrier, Thread

import pytest

from streamer.ledger.claims import Claims
from streamer.ledger.connection import connect
from streamer.ledger.epoch import Epoch
from streamer.ledger.holds import BatchRef, Holds
from streamer.ledger.limiter import Limiter
from streamer.model.disposition import Accepted, Retry, Suspended
from streamer.model.event import parse
from streamer.model.payload import Payload
from streamer.model.record import Record, RecordId
from streamer.model.result import ItemResult
from streamer.provider.accounts import Accounts
from streamer.provider.client import ApiResponse, ResendClient
from streamer.provider.responses import classify_response, result_label
from streamer.settings import AccountSettings, DeliverySettings, SettingsError
from streamer.settings import RedisSettings as RedisSettings
from streamer.stack import RedisServer
from streamer.worker.account_states import AccountStateCache
from streamer.worker.build import make_sending
from streamer.worker.clock import WorkerClock
from streamer.worker.pinned import PinnedBatch
from streamer.worker.sending import Deferred
from streamer.worker.waiter import Waiter
from tests.kit.tls import CA, CERTIFICATES, TlsProxy, TlsRequest, TlsServer

MAIL = b'{"from":"a@acme.test","to":["b@b.test"],"subject":"s","text":"t"}'
TAKEN = Accepted([ItemResult.sent("id-1")])
NOWHERE = "http://127.0.0.1:1"


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name.endswith(("_CA_BUNDLE", "SSL_CERT_FILE")):
            monkeypatch.delenv(name)


@pytest.fixture
def started() -> Iterator[Callable[[TlsServer], TlsServer]]:
    with ExitStack() as running:

        def start(server: TlsServer) -> TlsServer:
            running.enter_context(server.running())
            return server

        yield start


def call(url: str, may_send: Callable[[], bool] = lambda: True) -> ApiResponse:
    return ResendClient(url, 5.0).send_batch("re_1", "key-1", b"[" + MAIL + b"]", may_send)


def _record() -> Record:
    record = Record(RecordId("t", 0, 0), None, None, None, 0.0)
    event = b'{"organization_id":"acme","campaign_id":"c","recipient_id":"r","email":"b@b.test"}'
    record.attach_event(parse(event))
    record.address = "b@b.test"
    return record


class TestCertificates:
    @pytest.mark.parametrize(
        ("certificate", "words"),
        [
            ("self_signed", "self-signed certificate"),
            ("expired", "certificate has expired"),
            ("other_host", "certificate is not valid for '127.0.0.1'"),
        ],
    )
    def test_an_untrusted_certificate_is_named(
        self,
        certificate: str,
        words: str,
        started: Callable[[TlsServer], TlsServer],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(CA))
        server = started(TlsServer(certificate))
        answer = call(server.url)
        verdict = classify_response(answer, 1)
        assert isinstance(verdict, Suspended)
        assert verdict.reason == result_label(answer) == "untrusted_certificate"
        assert not verdict.sender_only
        assert words in verdict.detail
        assert f"127.0.0.1:{server.port}" in verdict.detail
        assert server.requests == []

    def test_an_unknown_issuer_is_named(self, started: Callable[[TlsServer], TlsServer]) -> None:
        verdict = classify_response(call(started(TlsServer("trusted")).url), 1)
        assert isinstance(verdict, Suspended)
        assert "unable to get local issuer certificate" in verdict.detail

    @pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"])
    def test_the_environment_sets_the_ca_bundle(
        self, name: str, started: Callable[[TlsServer], TlsServer], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(name, str(CA))
        assert classify_response(call(started(TlsServer("trusted")).url), 1) == TAKEN

    def test_the_requests_bundle_precedes_curls(
        self, started: Callable[[TlsServer], TlsServer], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(CA))
        monkeypatch.setenv("CURL_CA_BUNDLE", "/not/there")
        assert classify_response(call(started(TlsServer("trusted")).url), 1) == TAKEN

    @pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
    def test_an_unreadable_bundle_fails_at_start(
        self, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        empty = tmp_path / "empty.pem"
        empty.touch()
        for path in (tmp_path / "not-there.pem", empty):
            monkeypatch.setenv(name, str(path))
            with pytest.raises(SettingsError, match=rf"{name}.*{path.name}"):
                ResendClient("https://resend.test", 5.0)

    def test_other_tls_errors_are_transient(
        self, started: Callable[[TlsServer], TlsServer]
    ) -> None:
        plain = started(TlsServer())
        answer = call(plain.url.replace("http:", "https:"))
        assert classify_response(answer, 1) == Retry("no_answer", failing=True)

    def test_an_untrusted_certificate_holds_the_account_and_is_logged(
        self,
        started: Callable[[TlsServer], TlsServer],
        make_redis: Callable[[], RedisServer],
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        monkeypatch.setenv("RESEND_API_KEY", "re_1")
        server = started(TlsServer("self_signed"))
        redis = connect(RedisSettings(url=make_redis().url))
        epoch = Epoch.establish(redis, ())
        accounts = Accounts({"default": AccountSettings(api_key_env="RESEND_API_KEY")})
        limiter, claims = Limiter(redis, epoch), Claims(redis, epoch, 90_000)
        account_states = AccountStateCache(Holds(redis), limiter, accounts, 30.0)
        resend = ResendClient(server.url, 5.0)
        sending = make_sending(
            DeliverySettings(), accounts, resend, claims, limiter, account_states, Waiter()
        )
        ref, payload = BatchRef("acme", "b1"), Payload([MAIL])
        batch = PinnedBatch(ref, "default", "acme.test", payload, "", WorkerClock().boottime())
        claims.pin(*ref, "default", "acme.test", [_record()], payload)
        with caplog.at_level(logging.ERROR):
            result = sending.sender.send(batch)
        assert isinstance(result, Deferred)
        assert result.not_accepted
        hold = Holds(redis).read(["default"])["default"].holds[None]
        redis.close()
        assert hold.reason == "untrusted_certificate"
        (line,) = caplog.records
        assert "self-signed certificate" in vars(line)["detail"]


def test_a_slow_upload_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who adopts the batch relies on that no call of an earlier owner's arrives later."""
    monkeypatch.setenv("SSL_CERT_FILE", str(CA))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATES / "trusted.pem", CERTIFICATES / "key.pem")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)

        def read_slowly() -> None:
            connection, _ = listener.accept()
            with suppress(OSError), context.wrap_socket(connection, server_side=True) as secure:
                while secure.recv(16_384):
                    time.sleep(0.1)

        Thread(target=read_slowly, daemon=True).start()
        client = ResendClient(f"https://127.0.0.1:{listener.getsockname()[1]}", 1.0)
        started = time.monotonic()
        answer = client.send_batch("re_1", "k", b"x" * 8_000_000, lambda: True)
        assert time.monotonic() - started < 3
    assert classify_response(answer, 1) == Retry("no_answer", failing=True)
    assert answer.sent_at is None


class TestConnections:
    def test_a_thread_keeps_its_connection_and_shares_none(
        self, started: Callable[[TlsServer], TlsServer]
    ) -> None:
        server = started(TlsServer())
        client = ResendClient(server.url, 5.0)

        def call_twice(_: int) -> None:
            for _ in range(2):
                answer = client.send_batch("re_1", "k", b"[]", lambda: True)
                assert classify_response(answer, 1) == TAKEN

        barrier = Barrier(3)
        with ThreadPoolExecutor(3, initializer=barrier.wait) as threads:
            list(threads.map(call_twice, range(3)))
        assert len(server.requests) == 6
        assert 2 <= server.connections <= 3

    @pytest.mark.parametrize("certificate", [None, "trusted"])
    def test_one_that_the_server_has_closed_is_opened_again(
        self,
        certificate: str | None,
        started: Callable[[TlsServer], TlsServer],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """No call is lost on it, which would count as a failure of the account."""
        monkeypatch.setenv("SSL_CERT_FILE", str(CA))
        server = started(TlsServer(certificate))
        client = ResendClient(server.url, 5.0)
        for number in range(3):
            answer = client.send_batch("re_1", "k", b"[]", lambda: True)
            assert classify_response(answer, 1) == TAKEN
            assert server.connections == number + 1
            server.hang_up()

    def test_one_whose_call_failed_is_not_used_again(self) -> None:
        """Its late response would be taken for that of the next call."""
        replies = [b"", b'{"data":[{"id":"id-2"}]}']
        with socket.create_server(("127.0.0.1", 0)) as listener:

            def serve() -> None:
                for body in replies:
                    connection, _ = listener.accept()
                    open_connections.append(connection)
                    connection.recv(65_536)
                    if body:
                        head = f"content-type: application/json\r\ncontent-length: {len(body)}"
                        connection.sendall(f"HTTP/1.1 200 OK\r\n{head}\r\n\r\n".encode() + body)

            open_connections: list[socket.socket] = []
            Thread(target=serve, daemon=True).start()
            client = ResendClient(f"http://127.0.0.1:{listener.getsockname()[1]}", 0.5)
            started = time.monotonic()
            silent = client.send_batch("re_1", "k", b"[]", lambda: True)
            assert time.monotonic() - started < 3
            assert classify_response(silent, 1) == Retry("no_answer", failing=True)
            assert silent.sent_at is not None
            answer = client.send_batch("re_1", "k", b"[]", lambda: True)
            assert classify_response(answer, 1) == Accepted([ItemResult.sent("id-2")])
            for connection in open_connections:
                connection.close()

    def test_nothing_leaves_after_the_deadline(
        self, started: Callable[[TlsServer], TlsServer]
    ) -> None:
        server = started(TlsServer())
        client = ResendClient(server.url, 5.0)
        for number in range(2):  # without a connection, and with one
            answer = client.send_batch("re_1", "k", b"[]", lambda: False)
            assert answer.withheld
            assert answer.sent_at is None
            assert (len(server.requests), server.connections) == (number, number)
            answer = client.send_batch("re_1", "k", b"[]", lambda: True)
            assert classify_response(answer, 1) == TAKEN
            assert server.connections == 1

    def test_a_deadline_that_passes_while_connecting_withholds_the_call(
        self, started: Callable[[TlsServer], TlsServer]
    ) -> None:
        server = started(TlsServer())
        answers = iter([True, False])
        answer = call(server.url, may_send=lambda: next(answers))
        assert answer.withheld
        assert answer.sent_at is None
        assert server.requests == []

    def test_an_encoding_that_was_not_asked_for_is_undone(
        self, started: Callable[[TlsServer], TlsServer]
    ) -> None:
        class Encoding(TlsServer):
            def answer(self, handler: BaseHTTPRequestHandler, request: TlsRequest) -> None:
                body = gzip.compress(b'{"data":[{"id":"id-1"}]}')
                handler.send_response(200)
                handler.send_header("content-type", "application/json")
                handler.send_header("content-encoding", "gzip")
                handler.send_header("content-length", str(len(body)))
                handler.end_headers()
                handler.wfile.write(body)

        assert classify_response(call(started(Encoding()).url), 1) == TAKEN


class TestProxies:
    @pytest.fixture(params=["https", "http"])
    def upstream(
        self,
        request: pytest.FixtureRequest,
        started: Callable[[TlsServer], TlsServer],
        monkeypatch: pytest.MonkeyPatch,
    ) -> TlsServer:
        monkeypatch.setenv("SSL_CERT_FILE", str(CA))
        return started(TlsServer("trusted" if request.param == "https" else None))

    @pytest.fixture
    def proxy(self, upstream: TlsServer, started: Callable[[TlsServer], TlsServer]) -> TlsProxy:
        proxy = TlsProxy(upstream)
        started(proxy)
        return proxy

    def test_the_proxy_of_the_scheme_is_used(
        self, upstream: TlsServer, proxy: TlsProxy, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        other = "http" if upstream.scheme == "https" else "https"
        for name in (f"{upstream.scheme}_proxy", f"{upstream.scheme.upper()}_PROXY", "ALL_PROXY"):
            with monkeypatch.context() as patch:
                patch.setenv(name, f"http://127.0.0.1:{proxy.port}")
                if name != "ALL_PROXY":
                    patch.setenv(f"{other}_proxy", NOWHERE)
                assert classify_response(call(f"{upstream.scheme}://resend.test"), 1) == TAKEN
            asked = proxy.requests.pop()
            if upstream.scheme == "https":
                assert asked.line == "CONNECT resend.test:443 HTTP/1.0"
                assert "authorization" not in asked.headers
            else:
                assert asked.line == "POST http://resend.test/emails/batch HTTP/1.1"
            got = upstream.requests.pop()
            assert got.headers["host"] == "resend.test"
            assert got.headers["authorization"] == "Bearer re_1"
            assert got.headers["idempotency-key"] == "key-1"
            assert got.body == b"[" + MAIL + b"]"

    def test_a_proxy_without_a_scheme_is_one_of_http(
        self, upstream: TlsServer, proxy: TlsProxy, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("ALL_PROXY", f"127.0.0.1:{proxy.port}")
        assert classify_response(call(f"{upstream.scheme}://resend.test"), 1) == TAKEN

    @pytest.mark.parametrize("pattern", ["*", "127.0.0.1", "elsewhere.test, 127.0.0.1:{port}"])
    @pytest.mark.parametrize("name", ["NO_PROXY", "no_proxy"])
    def test_no_proxy_is_honoured(
        self, name: str, pattern: str, upstream: TlsServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("ALL_PROXY", NOWHERE)
        monkeypatch.setenv(name, pattern.format(port=upstream.port))
        assert classify_response(call(upstream.url), 1) == TAKEN

    def test_loopback_bypasses_the_proxy(
        self, upstream: TlsServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The sandbox, and the demo, work wherever a proxy is set for the world outside."""
        monkeypatch.setenv("ALL_PROXY", NOWHERE)
        assert classify_response(call(upstream.url), 1) == TAKEN

    def test_hosts_outside_no_proxy_use_the_proxy(
        self, upstream: TlsServer, proxy: TlsProxy, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("ALL_PROXY", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("NO_PROXY", "send.test, .acme.test")
        assert classify_response(call(f"{upstream.scheme}://resend.test"), 1) == TAKEN
        assert proxy.requests

    def test_credentials_are_sent_only_to_the_proxy(
        self, upstream: TlsServer, proxy: TlsProxy, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("ALL_PROXY", f"http://ann:p%40ss%C3%A9@127.0.0.1:{proxy.port}")
        assert classify_response(call(f"{upstream.scheme}://resend.test"), 1) == TAKEN
        (asked,) = proxy.requests
        scheme, _, words = asked.headers["proxy-authorization"].partition(" ")
        assert scheme == "Basic"
        assert base64.b64decode(words).decode() == "ann:p@ssé"
        assert "proxy-authorization" not in upstream.requests[0].headers

    @pytest.mark.parametrize("status", [403, 407, 502])
    def test_a_refusing_proxy_is_a_transient_error(
        self, status: int, upstream: TlsServer, proxy: TlsProxy, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("ALL_PROXY", f"http://ann:hidden@127.0.0.1:{proxy.port}")
        proxy.refusal = status
        answer = call(f"{upstream.scheme}://resend.test")
        why = "no_answer" if upstream.scheme == "https" else f"http_{status}"
        assert classify_response(answer, 1) == Retry(why, failing=True)
        assert str(status) in answer.message
        assert "hidden" not in answer.message
        assert upstream.requests == []
        proxy.refusal = None
        assert classify_response(call(f"{upstream.scheme}://resend.test"), 1) == TAKEN

    def test_an_unreachable_proxy_is_a_transient_error(
        self, upstream: TlsServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("ALL_PROXY", "http://ann:hidden@127.0.0.1:1")
        answer = call(f"{upstream.scheme}://resend.test")
        assert classify_response(answer, 1) == Retry("no_answer", failing=True)
        assert "hidden" not in answer.message

    def test_nothing_is_sent_after_the_deadline(
        self,
        upstream: TlsServer,
        started: Callable[[TlsServer], TlsServer],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Neither a tunnel nor a call is begun too late, nor a call in a tunnel that took long."""
        is_late: list[bool] = []
        proxy = TlsProxy(upstream, on_connect=lambda: is_late.append(True))
        started(proxy)
        monkeypatch.setenv("ALL_PROXY", f"http://127.0.0.1:{proxy.port}")
        url = f"{upstream.scheme}://resend.test"
        answer = call(url, may_send=lambda: False)
        assert answer.withheld
        assert answer.sent_at is None
        assert proxy.requests == upstream.requests == []
        if upstream.scheme == "https":
            answer = call(url, may_send=lambda: not is_late)
            assert answer.withheld
            assert answer.sent_at is None
            assert proxy.requests
            assert upstream.requests == []

    def test_a_tunnel_is_reused_and_reopened(
        self, upstream: TlsServer, proxy: TlsProxy, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("ALL_PROXY", f"http://127.0.0.1:{proxy.port}")
        client = ResendClient(f"{upstream.scheme}://resend.test", 5.0)
        for _ in range(3):
            assert (
                classify_response(client.send_batch("re_1", "k", b"[]", lambda: True), 1) == TAKEN
            )
        tunnels = [each for each in proxy.requests if each.line.startswith("CONNECT")]
        assert len(tunnels) == (upstream.scheme == "https")
        assert len(upstream.requests) == 3

    def test_a_proxy_can_use_tls(
        self,
        upstream: TlsServer,
        started: Callable[[TlsServer], TlsServer],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        proxy = TlsProxy(upstream, certificate="trusted")
        started(proxy)
        monkeypatch.setenv("ALL_PROXY", f"https://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(CA))
        assert classify_response(call(f"{upstream.scheme}://resend.test"), 1) == TAKEN
        proxy.present("expired")
        verdict = classify_response(call(f"{upstream.scheme}://resend.test"), 1)
        assert isinstance(verdict, Suspended)
        assert verdict.reason == "untrusted_certificate"
        assert "the proxy" in verdict.detail
        assert "certificate has expired" in verdict.detail

    def test_the_certificate_behind_a_tunnel_is_checked(
        self, started: Callable[[TlsServer], TlsServer], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        upstream = started(TlsServer("other_host"))
        proxy = TlsProxy(upstream)
        started(proxy)
        monkeypatch.setenv("SSL_CERT_FILE", str(CA))
        monkeypatch.setenv("ALL_PROXY", f"http://127.0.0.1:{proxy.port}")
        verdict = classify_response(call("https://resend.test"), 1)
        assert isinstance(verdict, Suspended)
        assert "certificate is not valid for 'resend.test'" in verdict.detail
        assert "resend.test: " in verdict.detail

    @pytest.mark.parametrize("url", ["socks5://127.0.0.1:1080", "http://", "http://a:b:c"])
    def test_an_invalid_proxy_fails_at_start(
        self, url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("ALL_PROXY", url)
        with pytest.raises(SettingsError, match="ALL_PROXY"):
            ResendClient("https://resend.test", 5.0)
