"""Webhooks, repeated and in disorder, while gateway, worker and Kafka are killed."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import cast

import orjson
import pytest
import urllib3

from streamer.ledger import keys, suppression
from streamer.ledger.mail_events import read_event_counts
from streamer.mail.unsubscribe import UnsubscribeLinks
from streamer.stack import KafkaServer
from tests.integration.gateway.test_gateway import environment
from tests.kit.gateway import GatewayProcess, signed, webhook
from tests.kit.harness import Harness, wait_until

pytestmark = pytest.mark.slow

_READERS = 5_000
_LANES = 4
_LINKS = UnsubscribeLinks("https://example.com/u", [b"a secret for tests alone"])


class MortalGateway:
    """A gateway that is killed and started again."""

    def __init__(self, harness: Harness) -> None:
        self._harness = harness
        self.gateway = self._start()

    def _start(self) -> GatewayProcess:
        return GatewayProcess(environment(self._harness)).__enter__()

    def kill(self) -> None:
        """Kill the gateway, and start another."""
        old = self.gateway
        old.process.kill()
        old.process.wait(10)
        self.gateway = self._start()
        old.__exit__(None, None, None)


Webhook = tuple[str, bytes]


def _webhooks(harness: Harness) -> tuple[list[Webhook], Counter[str], set[str]]:
    """Return signed events, what they count up to, and whom they suppress."""
    tags = {"organization": harness.organization, "campaign": "storm"}
    found, counts, gone = [], Counter[str](), set()
    for number in range(_READERS):
        address = f"reader{number}@example.com"
        kinds = ["sent", "delivered", "opened", "clicked"][: 2 + number % 3]
        if number % 50 == 0:
            kinds = ["sent", "bounced"]
            gone.add(address)
        for kind in kinds:
            more = {"bounce": {"type": "Permanent"}} if kind == "bounced" else {}
            body = webhook(f"email.{kind}", to=[address], tags=tags, **more)
            found.append((f"msg_{number}_{kind}", body))
            word = {"bounced": "bounced_permanent"}.get(kind, kind)
            counts[word] += word != "sent"
    return found, +counts, gone


def _deliver(site: MortalGateway, own: Iterable[Webhook], stop: threading.Event) -> None:
    """Send webhooks as Resend does: again until each is acknowledged."""
    http = urllib3.PoolManager(retries=False, timeout=20.0)
    for event_id, body in own:
        while not stop.is_set():
            headers = signed(body, event_id, int(time.time()))
            try:
                url = f"{site.gateway.url}/webhooks/default"
                if http.request("POST", url, body=body, headers=headers).status == 200:
                    break
            except urllib3.exceptions.HTTPError:
                pass
            time.sleep(0.05)


@pytest.mark.timeout(900)
def test_each_event_is_acted_on_and_counted_once(
    make_harness: Callable[..., Harness], make_kafka: Callable[[], KafkaServer]
) -> None:
    kafka = make_kafka()
    harness = make_harness(kafka=kafka)
    harness.settings["STREAMER_PROGRESS__EMBEDDED"] = "true"
    worker = harness.start_worker()
    site = MortalGateway(harness)
    events, expected, gone = _webhooks(harness)
    rng = random.Random(7)
    sent = events + rng.sample(events, len(events) // 3)
    rng.shuffle(sent)
    stop = threading.Event()
    lanes = [
        threading.Thread(target=_deliver, args=(site, sent[start::_LANES], stop))
        for start in range(_LANES)
    ]
    for lane in lanes:
        lane.start()
    key = keys.event_counts(harness.organization, "storm")

    def counts() -> dict[str, int]:
        fields = cast(dict[bytes, bytes], harness.redis.hgetall(key))
        return read_event_counts([word for pair in fields.items() for word in pair])

    def counted(share: float) -> bool:
        return sum(counts().values()) >= share * expected.total()

    leaving = [f"reader{number}@example.com" for number in range(1, _READERS, 100)]
    try:
        for number, kill in enumerate(("gateway", "worker", "kafka", "gateway", "worker")):
            wait_until(lambda: counted(0.1 * (number + 1)), 300, f"share {number}")  # noqa: B023
            if kill == "gateway":
                site.kill()
            elif kill == "worker":
                worker.kill()
                worker = harness.start_worker()
            else:
                kafka.kill()
                kafka.start()
        for address in leaving:
            token = _LINKS.sign(harness.organization, "storm", address)
            url = f"{site.gateway.url}/u/{token}"
            wait_until(
                lambda: urllib3.request("POST", url, timeout=20.0).status == 200,  # noqa: B023
                60,
                "unsubscribed",
            )
        for lane in lanes:
            lane.join(600)
            assert not lane.is_alive()
        expected["unsubscribed"] = len(leaving)
        wait_until(lambda: counts() == dict(expected), 120, f"{dict(expected)}")
    finally:
        stop.set()
        site.gateway.__exit__(None, None, None)
    assert set(suppression.export(harness.redis, harness.organization)) == gone | {*leaving}
    # Nobody is mailed after an unsubscription that was acknowledged.
    readers = range(0, _READERS, 25)
    harness.produce(
        orjson.loads(orjson.dumps(harness.event(n, email=f"reader{n}@example.com")))
        for n in (*readers, *range(1, _READERS, 100))
    )
    harness.await_resolutions(len(readers) + len(leaving), 120)
    mailed = {each.address for each in harness.resolutions() if each.status == "sent"}
    assert mailed.isdisjoint(gone | {*leaving})
    assert len(mailed) == len(readers) - len(gone)
