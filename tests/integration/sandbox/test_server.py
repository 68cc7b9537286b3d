"""The process, the wire and the command."""

import json
import signal
import socket
import subprocess
import sys
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import pytest

from streamer.sandbox import AccountSpec, Config, SandboxError, SandboxProcess
from tests.integration.sandbox.client import Client, mail, wait_until

PARENT = """
import sys
from streamer.sandbox import SandboxProcess
sandbox = SandboxProcess()
sandbox.start()
print(sandbox.url, flush=True)
sys.stdin.read()
"""


def _listens(url: str) -> bool:
    address = urlsplit(url)
    with socket.socket() as probe:
        return probe.connect_ex((address.hostname, address.port)) == 0


def test_the_child_ends_with_its_parent() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        url = parent.stdout.readline().strip()
        assert _listens(url)
        parent.kill()
    wait_until(lambda: not _listens(url))


def test_the_child_ends_with_its_context() -> None:
    with SandboxProcess() as sandbox:
        url = sandbox.url
        assert _listens(url)
    assert not _listens(url)
    with pytest.raises(SandboxError):
        sandbox.stats()


def test_a_port_in_use_is_reported(sandbox: SandboxProcess) -> None:
    port = urlsplit(sandbox.url).port
    assert port is not None
    with pytest.raises(SandboxError):
        SandboxProcess(port=port).start()


def test_accounts_cannot_share_a_key() -> None:
    spec = AccountSpec(name="a", keys=("re_1",))
    with pytest.raises(ValueError, match="same key"):
        Config(accounts=(spec, spec.model_copy(update={"name": "b"})))


def _talk(sandbox: SandboxProcess, *parts: bytes) -> bytes:
    """Send raw bytes, close that side, read all."""
    address = urlsplit(sandbox.url)
    with socket.create_connection((address.hostname, address.port), timeout=30) as wire:
        for part in parts:
            wire.sendall(part)
        response = b""
        while piece := wire.recv(65536):
            response += piece
    return response


HEAD = b"Host: x\r\nUser-Agent: x\r\nAuthorization: Bearer re_sandbox\r\n"


def test_pipelined_requests_are_answered(sandbox: SandboxProcess) -> None:
    body = json.dumps([mail()]).encode()
    first = b"POST /emails/batch HTTP/1.1\r\n%bContent-Length: %d\r\n\r\n%b" % (
        HEAD,
        len(body),
        body,
    )
    last = b"GET /domains HTTP/1.1\r\n" + HEAD + b"Connection: close\r\n\r\n"
    response = _talk(sandbox, first + last)
    assert response.count(b"HTTP/1.1 200 OK\r\n") == 2
    assert sandbox.stats().accepted == 1


def test_a_request_in_pieces_is_assembled(sandbox: SandboxProcess) -> None:
    body = json.dumps([mail()]).encode()
    head = b"POST /emails/batch HTTP/1.1\r\n%bConnection: close\r\nContent-Length: %d\r\n\r\n" % (
        HEAD,
        len(body),
    )
    whole = head + body
    response = _talk(sandbox, *(whole[i : i + 7] for i in range(0, len(whole), 7)))
    assert response.startswith(b"HTTP/1.1 200 OK\r\n")


def test_expect_is_answered(sandbox: SandboxProcess) -> None:
    head = b"POST /emails/batch HTTP/1.1\r\n%bConnection: close\r\n" % HEAD
    response = _talk(sandbox, head + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n[]")
    assert response.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 422 ")


CHUNKED = b"POST /emails/batch HTTP/1.1\r\n%bTransfer-Encoding: chunked\r\n" % HEAD + b"\r\n"


def test_a_chunked_body_is_read(sandbox: SandboxProcess) -> None:
    body = json.dumps([mail()]).encode()
    parts = [body[i : i + 50] for i in range(0, len(body), 50)]
    chunks = [b"%X;note=1\r\n%b\r\n" % (len(part), part) for part in parts]
    end = b"0\r\nTrailer: x\r\n\r\n"
    last = b"GET /domains HTTP/1.1\r\n" + HEAD + b"Connection: close\r\n\r\n"
    response = _talk(sandbox, CHUNKED, *chunks, end + last)
    assert response.count(b"HTTP/1.1 200 OK\r\n") == 2
    assert sandbox.stats().accepted == 1


def test_every_response_has_date_and_etag(client: Client, sandbox: SandboxProcess) -> None:
    one, two = client.send([mail()], key="k"), client.send([mail()], key="k")
    assert one.headers["etag"] == two.headers["etag"]
    other = client.call("GET", "/nowhere")
    assert other.headers["etag"].startswith(f'W/"{len(other.raw):x}-')
    assert other.headers["etag"] != one.headers["etag"]
    sandbox.advance(3600)
    later = parsedate_to_datetime(client.call("GET", "/stats").headers["date"])
    now = parsedate_to_datetime(one.headers["date"])
    assert 3600 <= (later - now).total_seconds() < 3660
    assert b"\r\ndate: " in _talk(sandbox, b"nonsense\r\n\r\n")


@pytest.mark.parametrize(
    ("request_head", "status"),
    [
        (b"POST /emails/batch HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", b"501"),
        (CHUNKED + b"many\r\n", b"400"),
        (CHUNKED + b"1\r\n[[]]\r\n", b"400"),
        (b"POST /emails/batch HTTP/1.1\r\nContent-Length: many\r\n\r\n", b"400"),
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 300_000, b"431"),
    ],
)
def test_malformed_requests_are_refused(
    sandbox: SandboxProcess, request_head: bytes, status: bytes
) -> None:
    assert _talk(sandbox, request_head).startswith(b"HTTP/1.1 " + status)


FAULTS = ["--fault", 'sending_only=["re_acme"]', "--fault", "ratelimit_headers=right"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_runs_until_a_signal(number: signal.Signals) -> None:
    command = [sys.executable, "-m", "streamer", "sandbox", "--port", "0", "--json"]
    with subprocess.Popen(
        [*command, "--limit", "0", "--latency-ms", "0", "--key", "acme=re_acme:7", *FAULTS],
        stdout=subprocess.PIPE,
    ) as process:
        try:
            assert process.stdout is not None
            told = json.loads(process.stdout.readline())
            assert told["accounts"] == {
                "default": {"keys": ["re_sandbox"], "limit": None},
                "acme": {"keys": ["re_acme"], "limit": 7},
            }
            reply = Client(told["url"], "re_acme").send([mail()])
            assert (reply.status, reply.headers["ratelimit-limit"]) == (200, "7")
            refused = Client(told["url"], "re_acme").call("GET", "/domains")
            assert refused.error == (401, "restricted_api_key")
            process.send_signal(number)
            assert process.wait(30) == 0
        finally:
            process.kill()


@pytest.mark.parametrize("option", ["acme", "=re_acme", "acme=", "acme=re_a:x", "a=re_sandbox"])
def test_the_command_refuses_an_invalid_key(option: str) -> None:
    command = [sys.executable, "-m", "streamer", "sandbox", "--key", option]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "--key" in done.stderr


@pytest.mark.parametrize("option", ["no_such=1", "error_after_percent=101", "quota=hourly"])
def test_the_command_refuses_an_unknown_fault(option: str) -> None:
    command = [sys.executable, "-m", "streamer", "sandbox", "--fault", option]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "--fault" in done.stderr
    assert option.partition("=")[0] in done.stderr


def test_listening_on_a_host_prints_a_warning() -> None:
    command = [sys.executable, "-m", "streamer", "sandbox", "--port", "0", "--json"]
    process = subprocess.Popen(
        [*command, "--host", "0.0.0.0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["url"].startswith("http://0.0.0.0:")
    finally:
        process.terminate()
        _, errors = process.communicate(timeout=10)
    assert b"not a mail server" in errors


def test_no_web_page_of_another_site_is_trusted(client: Client, sandbox: SandboxProcess) -> None:
    body = b'{"faults": {"outage": "drop"}}'
    as_json = {"content_type": "application/json"}

    def status(**headers: str) -> int:
        return client.call("POST", "/_sandbox/faults", body, **headers).status

    # A page may send this without asking, and a form sends its text as it is.
    assert status(content_type="text/plain", origin="https://evil.example") == 403
    assert status(content_type="text/plain") == 415
    # A name of the page's own, made to point here.
    assert status(**as_json, host="evil.example:8025") == 403
    assert client.call("GET", "/", host="evil.example:8025").status == 403
    assert client.call("GET", "/", host="[").status == 403
    assert sandbox.stats().accepted == 0
    assert client.send([mail()]).status == 200
    own = urlsplit(sandbox.url).netloc
    for host in (own, "localhost", "sandbox", "sandbox.test:8025", "[::1]:8025"):
        assert client.call("GET", "/stats", host=host, origin=f"http://{host}").status == 200
