"""How many webhooks the gateway takes: `python -m bench gateway`.

Signed webhooks come over kept-alive connections, from a process of its own; each is answered once
Kafka has acknowledged it.
"""

import asyncio
import base64
import hmac
import multiprocessing
import os
import re
import time
from contextlib import closing
from typing import Annotated

import orjson
import typer
import urllib3

from bench.measured import MeasuredProcess
from bench.site import BenchSite, read_metrics, show, totals_alone
from streamer.stack import Stack
from streamer.stack.ports import free_port

PER_SECOND_BAR = 5_000
_CONNECTIONS = 128
_KEY = b"a signing secret for measurements"
_SECRET = f"whsec_{base64.b64encode(_KEY).decode()}"
_TAKEN = re.compile(
    r'^streamer_gateway_requests_total\{result="accepted",route="webhook"\} (\S+)$', re.MULTILINE
)


def gateway(
    webhooks: Annotated[int, typer.Option(min=1_000, help="How many to send.")] = 50_000,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Measure how many webhooks a second the gateway takes, and what each costs."""
    port = free_port()
    with (
        Stack.ephemeral() as stack,
        totals_alone(None) as sandbox,
        closing(BenchSite(stack, sandbox, "gateway")) as site,
    ):
        site.make_topics()
        environment = {
            **os.environ,
            "STREAMER_KAFKA__BOOTSTRAP_SERVERS": stack.bootstrap_servers,
            "STREAMER_TOPICS": site.topics.model_dump_json(),
            "STREAMER_ACCOUNTS__DEFAULT__WEBHOOK_SECRET_ENV": "WEBHOOK_SECRET",
            "WEBHOOK_SECRET": _SECRET,
        }
        arguments = ["-m", "streamer", "gateway", "--port", str(port)]
        with MeasuredProcess(arguments, environment) as process:
            process.wait_until(lambda: _taken(port) is not None, 0.1, 60.0)
            _send(port, 2_000)  # warm
            before, started = process.cpu_seconds(), time.monotonic()
            _send(port, webhooks)
            cpu_s, wall_s = process.cpu_seconds() - before, time.monotonic() - started
            taken = _taken(port)
            peak = process.peak_rss()
    per_cpu_s, per_s = webhooks / cpu_s, webhooks / wall_s
    missed = per_cpu_s < PER_SECOND_BAR or taken != webhooks + 2_000
    show(
        {
            "webhooks": webhooks,
            "taken": taken,
            "per_second": per_s,
            "per_cpu_second": per_cpu_s,
            "cpu_us_each": 1e6 / per_cpu_s,
            "peak_rss_bytes": peak,
            "bars": {"per_cpu_second": PER_SECOND_BAR},
            "missed": missed,
        },
        f"{webhooks:,} webhooks acknowledged by Kafka: {1e6 / per_cpu_s:.0f} µs of CPU each, so "
        f"{per_cpu_s:,.0f} a second on one core; {per_s:,.0f} a second here and now; "
        f"{peak / 1e6:.0f} MB; {PER_SECOND_BAR:,} a second and core is "
        f"{'missed' if missed else 'kept'}",
        json,
    )
    raise typer.Exit(missed)


def _taken(port: int) -> float | None:
    """Return how many webhooks were acknowledged so far; None before it answers."""
    try:
        found = _TAKEN.search(read_metrics(port))
    except urllib3.exceptions.HTTPError:
        return None
    return float(found[1]) if found else 0.0


def _send(port: int, number: int) -> None:
    """Send webhooks from a process of its own, and wait until all are answered with 200."""
    sender = multiprocessing.get_context("spawn").Process(target=_sender, args=(port, number))
    sender.start()
    sender.join()
    if sender.exitcode != 0:
        raise RuntimeError("a webhook was not acknowledged")


def _sender(port: int, number: int) -> None:
    asyncio.run(_send_all(port, [_request(each) for each in range(number)]))


async def _send_all(port: int, requests: list[bytes]) -> None:
    async def lane(own: list[bytes]) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for request in own:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200 "):
                raise RuntimeError(head.decode())
            await reader.readexactly(len(b"ok\n"))
        writer.close()

    await asyncio.gather(*(lane(requests[start::_CONNECTIONS]) for start in range(_CONNECTIONS)))


def _request(number: int) -> bytes:
    body = orjson.dumps(
        {
            "type": "email.delivered",
            "created_at": "2026-11-24T03:40:00.123Z",
            "data": {
                "email_id": f"4ef9a417-02e9-4d39-ad75-{number:012d}",
                "created_at": "2026-11-24T03:39:58.456Z",
                "from": "Acme <news@acme.example>",
                "to": [f"recipient.{number}@mail-{number % 50}.example"],
                "subject": "Spring is here",
                "tags": {"organization": "bench", "campaign": "gateway", "_r": "Q0xSAAMAAAAAABA"},
            },
        }
    )
    name, at = f"msg_{number}", int(time.time())
    mac = hmac.digest(_KEY, f"{name}.{at}.".encode() + body, "sha256")
    head = (
        f"POST /webhooks/default HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: {len(body)}\r\n"
        f"Content-Type: application/json\r\nsvix-id: {name}\r\nsvix-timestamp: {at}\r\n"
        f"svix-signature: v1,{base64.b64encode(mac).decode()}\r\n\r\n"
    )
    return head.encode() + body
