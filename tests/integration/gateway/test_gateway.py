"""`streamer gateway` on a real Kafka: what is acknowledged is there, and hostile clients hold
nothing."""

import contextlib
import resource
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator

import psutil
import pytest
from confluent_kafka import Consumer, TopicPartition

from streamer.mail.unsubscribe import UnsubscribeLinks
from streamer.model.mail_event import read_event
from streamer.model.published import PublishedMailEvent
from streamer.stack import KafkaServer
from tests.kit.gateway import SECRET, GatewayProcess, webhook
from tests.kit.harness import Harness, wait_until

_LINKS = UnsubscribeLinks("https://example.com/u", [b"a secret for tests alone"])
TOKEN = _LINKS.sign("acme", "spring-26", "ann@example.com")
_MAX_RSS = 150_000_000


def environment(harness: Harness, **settings: str) -> dict[str, str]:
    """Return the settings of a gateway that takes the webhooks of `tests.kit.gateway`."""
    return {
        **harness.environment(),
        "STREAMER_ACCOUNTS__DEFAULT__WEBHOOK_SECRET_ENV": "WEBHOOK_SECRET",
        "WEBHOOK_SECRET": SECRET,
        "STREAMER_GATEWAY__REQUESTS_PER_SECOND_BY_ADDRESS": "100000",
        "STREAMER_GATEWAY__REQUESTS_PER_SECOND": "100000",
        **settings,
    }


@pytest.fixture
def gateway(harness: Harness) -> Iterator[GatewayProcess]:
    with GatewayProcess(environment(harness)) as process:
        yield process


def events(harness: Harness) -> list[PublishedMailEvent]:
    """Return all events on the topic."""
    consumer = Consumer(
        {"bootstrap.servers": harness.bootstrap_servers, "group.id": "x", "log_level": 0}
    )
    found = []
    with contextlib.closing(consumer):
        for number in (
            consumer.list_topics(harness.topics.events).topics[harness.topics.events].partitions
        ):
            place = TopicPartition(harness.topics.events, number, 0)
            low, high = consumer.get_watermark_offsets(place, timeout=10)
            consumer.assign([place])
            while low < high:
                message = consumer.poll(10)
                assert message is not None
                assert message.error() is None
                found.append(read_event(message.value()))
                low = (message.offset() or 0) + 1
    return found


def _now() -> int:
    return int(time.time())


def test_what_is_acknowledged_is_on_the_topic(harness: Harness, gateway: GatewayProcess) -> None:
    statuses = [gateway.post_webhook(webhook(), _now(), f"msg_{number}") for number in range(20)]
    assert statuses == [200] * 20
    answer = gateway.http.request(
        "POST",
        f"{gateway.url}/u/{TOKEN}",
        fields={"List-Unsubscribe": "One-Click"},
        timeout=20.0,
    )
    assert answer.status == 200
    found = events(harness)
    assert {event.origin.event_id for event in found if event.type == "delivered"} == {
        f"msg_{number}" for number in range(20)
    }
    (last,) = (event for event in found if event.type == "unsubscribed")
    assert (last.address, last.origin.kind) == ("ann@example.com", "one_click")
    assert gateway.http.request("GET", f"{gateway.url}/readyz").status == 200
    assert gateway.stop() == 0


def test_what_was_begun_is_finished_at_the_end(harness: Harness, gateway: GatewayProcess) -> None:
    taken: list[str] = []

    def post(lane: int) -> None:
        with contextlib.suppress(Exception):
            for number in range(10_000):
                name = f"msg_{lane}_{number}"
                if gateway.post_webhook(webhook(), _now(), name) == 200:
                    taken.append(name)

    lanes = [threading.Thread(target=post, args=(lane,)) for lane in range(4)]
    for lane in lanes:
        lane.start()
    wait_until(lambda: len(taken) > 100, 30, "webhooks taken")
    assert gateway.stop() == 0
    for lane in lanes:
        lane.join(30)
    assert {event.origin.event_id for event in events(harness)} >= set(taken)


def test_what_was_acknowledged_survives_kill_9(harness: Harness, gateway: GatewayProcess) -> None:
    taken = [
        name
        for name in (f"msg_{number}" for number in range(50))
        if gateway.post_webhook(webhook(), _now(), name) == 200
    ]
    gateway.process.send_signal(signal.SIGKILL)
    gateway.process.wait(10)
    assert {event.origin.event_id for event in events(harness)} == set(taken)


@pytest.mark.slow
def test_without_kafka_resend_tries_again(
    make_harness: Callable[..., Harness], make_kafka: Callable[[], KafkaServer]
) -> None:
    kafka = make_kafka()
    harness = make_harness(kafka=kafka)
    with GatewayProcess(environment(harness)) as gateway:
        assert gateway.post_webhook(webhook(), _now(), "first") == 200
        kafka.kill()
        assert gateway.post_webhook(webhook(), _now(), "second") == 503
        ready = f"{gateway.url}/readyz"
        wait_until(lambda: gateway.http.request("GET", ready).status == 503, 30, "not ready")
        assert gateway.http.request("GET", f"{gateway.url}/healthz").status == 200
        kafka.start()
        wait_until(lambda: gateway.http.request("GET", ready).status == 200, 60, "ready")
        assert gateway.post_webhook(webhook(), _now(), "second") == 200
        assert {event.origin.event_id for event in events(harness)} == {"first", "second"}


def test_slow_and_large_requests_are_cut_off(gateway: GatewayProcess) -> None:
    slow = _connect(gateway)
    slow.sendall(b"POST /webhooks/default HTTP/1.1\r\nHost: x\r\nX-")
    body = _connect(gateway)
    body.sendall(b"POST /webhooks/default HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n1")
    large = _connect(gateway)
    large.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n")
    assert _is_cut(large, b"X-Filler: " + b"x" * 1_000 + b"\r\n")
    endless = _connect(gateway)
    endless.sendall(
        b"POST /webhooks/default HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    assert _is_cut(endless, b"10000\r\n" + b"x" * 65_536 + b"\r\n")
    announced = _connect(gateway)
    announced.sendall(
        b"POST /webhooks/default HTTP/1.1\r\nHost: x\r\nContent-Length: 1073741824\r\n\r\n"
    )
    assert b" 413 " in announced.recv(1_000)
    # Each has ten seconds, however often it sends a byte.
    deadline = time.monotonic() + 25
    for one in (slow, body):
        while not _is_closed(one):
            assert time.monotonic() < deadline
    assert gateway.post_webhook(webhook(), _now()) == 200
    assert psutil.Process(gateway.process.pid).memory_info().rss < _MAX_RSS


def test_open_connections_keep_nobody_out(gateway: GatewayProcess) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    number = min(10_000, most - 500)
    with contextlib.ExitStack() as stack:
        for _ in range(number):
            stack.callback(_connect(gateway).close)
        assert gateway.post_webhook(webhook(), _now()) == 200
        assert gateway.http.request("GET", f"{gateway.url}/u/{TOKEN}").status == 200
        assert psutil.Process(gateway.process.pid).memory_info().rss < _MAX_RSS


def _connect(gateway: GatewayProcess) -> socket.socket:
    return socket.create_connection(("127.0.0.1", gateway.port), timeout=10)


def _is_cut(connection: socket.socket, piece: bytes) -> bool:
    """Whether the connection is cut before it has taken a hundred MB."""
    try:
        for _ in range(100_000_000 // len(piece)):
            connection.sendall(piece)
    except OSError:
        return True
    return False


def _is_closed(connection: socket.socket) -> bool:
    """Whether the other side has closed it; sends a byte."""
    connection.settimeout(0.3)
    try:
        connection.sendall(b"1")
        return connection.recv(1_000) == b""
    except TimeoutError:
        return False
    except OSError:
        return True
