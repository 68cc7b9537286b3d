"""Mutated requests: none is a 5xx, none is taken, and honest clients are still served."""

import contextlib
import random
import re
import socket
import time

import psutil
import pytest

from tests.integration.gateway.test_gateway import TOKEN, environment
from tests.kit.gateway import GatewayProcess, signed, webhook
from tests.kit.harness import Harness, wait_until

pytestmark = pytest.mark.slow

_REQUESTS = 10_000
_MAX_RSS = 150_000_000
_STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")
_PIECES = [
    *(b"\r\n", b"\r\n\r\n", b"\0", b"\xff", b"%00", b"%ff", b"../", b"A" * 5_000, b": ", b"HTTP/9"),
    *(b"Transfer-Encoding: chunked\r\n", b"Content-Length: -1\r\n", b"Expect: 100-continue\r\n"),
    *(b"Content-Length: 99999999999999999999\r\n", b"Upgrade: websocket\r\n", b"GET ", b"{", b"?"),
    *(b"Connection: Upgrade, HTTP2-Settings\r\n", b"X-Forwarded-For: \xff\r\n", "é".encode()),
]


def _seeds() -> list[bytes]:
    body = webhook()
    fields = signed(body, "msg_1", int(time.time()) - 1_000)  # stale: never taken, even unchanged
    headers = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    head = f"POST /webhooks/default HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n{headers}"
    forged = f"{TOKEN[:-4]}AAAA"
    return [
        head.encode() + b"\r\n" + body,
        f"GET /u/{forged} HTTP/1.1\r\nHost: x\r\nAccept-Language: de;q=0.5\r\n\r\n".encode(),
        f"POST /u/{forged} HTTP/1.1\r\nHost: x\r\nContent-Length: 26\r\n\r\n".encode()
        + b"List-Unsubscribe=One-Click",
        b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n",
    ]


def _mutated(request: bytes, rng: random.Random) -> bytes:
    changed = bytearray(request)
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(changed) + 1)
        match rng.randrange(4):
            case 0:
                changed[place:place] = rng.choice(_PIECES)
            case 1:
                del changed[place : place + rng.randint(1, 20)]
            case 2:
                changed[place : place + 1] = bytes((rng.randrange(256),))
            case _:
                changed[place:place] = changed[: rng.randint(0, 200)]
    return bytes(changed)


def test_mutated_requests_do_no_harm(harness: Harness) -> None:
    rng = random.Random(11)
    seeds = _seeds()
    statuses: set[int] = set()
    with GatewayProcess(environment(harness)) as gateway:
        ready = f"{gateway.url}/readyz"
        wait_until(lambda: gateway.http.request("GET", ready).status == 200, 30, "ready")
        for _ in range(_REQUESTS):
            with contextlib.suppress(OSError):
                with socket.create_connection(("127.0.0.1", gateway.port), timeout=5) as one:
                    one.sendall(_mutated(rng.choice(seeds), rng))
                    one.shutdown(socket.SHUT_WR)
                    one.settimeout(0.5)
                    answer = b""
                    while piece := one.recv(65_536):
                        answer += piece
                        if len(answer) > 200_000:
                            break
                statuses.update(map(int, _STATUS.findall(answer)))
        assert not {status for status in statuses if status >= 500}, statuses
        assert {200, 400, 401, 404} <= statuses
        assert gateway.post_webhook(webhook(), int(time.time())) == 200
        text = gateway.http.request("GET", f"{gateway.url}/metrics").data.decode()
        assert 'requests_total{result="accepted",route="webhook"} 1.0' in text
        assert 'result="unsubscribed"' not in text
        assert psutil.Process(gateway.process.pid).memory_info().rss < _MAX_RSS
        assert gateway.stop() == 0
