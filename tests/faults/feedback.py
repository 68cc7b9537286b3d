"""The events of a lap: what becomes of its mails, and what must follow from that."""

import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple, cast

import orjson
import urllib3
from pydantic import JsonValue

from streamer.ledger import keys, suppression
from streamer.ledger.connection import Client
from streamer.ledger.holds import By, Holds
from streamer.ledger.mail_events import read_event_counts
from streamer.mail.unsubscribe import UnsubscribeLinks
from streamer.model.campaign import CampaignName
from streamer.model.mail_event import (
    EventType,
    KeyedEvent,
    Origin,
    event_of_token,
    event_of_webhook,
)
from streamer.model.record import RecordId
from streamer.model.reference import TAG, campaign_check, place
from tests.kit.gateway import SECRET, GatewayProcess, signed
from tests.kit.points import Script
from tests.kit.redis_proxy import FROZEN_S

ACCOUNT = "later"
"""The account of the webhooks. Lanes send nothing by it, so it may be held."""
ENVIRONMENT = {
    f"STREAMER_ACCOUNTS__{ACCOUNT.upper()}__WEBHOOK_SECRET_ENV": "WEBHOOK_SECRET",
    f"STREAMER_ACCOUNTS__{ACCOUNT.upper()}__ORGANIZATIONS": '["none"]',
    "WEBHOOK_SECRET": SECRET,
}
"""More settings of a gateway that takes them."""

_LINKS = UnsubscribeLinks("https://example.com/u/", [b"a secret for tests alone"])
_ANSWER_S = 3.0
_AGAIN_S = 0.1
_TROUBLE = "domain_not_verified"


class GivenWebhook(NamedTuple):
    """A webhook as Resend sends it."""

    event_id: str
    payload: Mapping[str, JsonValue]

    def event(self, topic: str) -> KeyedEvent:
        """The event that the gateway makes of it."""
        origin = Origin("webhook", ACCOUNT, self.event_id, datetime.now(UTC))
        return event_of_webhook(self.payload, origin, topic)

    def post(self, gateway: GatewayProcess) -> int:
        body = orjson.dumps(self.payload)
        headers = signed(body, self.event_id, int(time.time()))
        url = f"{gateway.url}/webhooks/{ACCOUNT}"
        return gateway.http.request(
            "POST", url, body=body, headers=headers, timeout=_ANSWER_S
        ).status


class GivenClick(NamedTuple):
    """A one-click unsubscription."""

    name: CampaignName
    address: str

    def event(self, topic: str) -> KeyedEvent:
        """The event that the gateway makes of it."""
        del topic
        origin = Origin("one_click", None, None, datetime.now(UTC))
        return event_of_token(EventType.UNSUBSCRIBED, self.name, self.address, origin)

    def post(self, gateway: GatewayProcess) -> int:
        url = f"{gateway.url}/u/{_LINKS.sign(*self.name, self.address).rpartition('/')[2]}"
        fields = {"List-Unsubscribe": "One-Click"}
        return gateway.http.request("POST", url, fields=fields, timeout=_ANSWER_S).status


class LapFeedback:
    """The events of one lap, and what must follow from them, exactly.

    Args:
        source: an input record of the campaign, which events refer to whose tags do not tell it
            from others.

    Attributes:
        given: the events, some of them repeated.
    """

    def __init__(self, lap: str, name: CampaignName, source: RecordId) -> None:
        self._lap = lap
        self._name = name
        check = campaign_check(*name)
        named = {"organization": name.organization, "campaign": name.campaign_id}
        lossy = {**named, "campaign": "another", TAG: f"{check}{place(source)}"}
        webhooks = [
            *(self._webhook("delivered", number, named) for number in range(4)),
            *(self._webhook("opened", number, lossy) for number in range(2)),
            self._webhook("bounced", 4, named, bounce={"type": "Permanent"}),
            self._webhook("bounced", 5, named, bounce={"type": "Transient"}),
            self._webhook("complained", 1, named),
            self._webhook("failed", 6, lossy, failed={"reason": "the domain is not verified"}),
        ]
        clicks = [GivenClick(name, self._address(number)) for number in (2, 3)]
        # Opened before it was delivered; each third repeated, but not the first two, which have the
        # faults: the repeat would hide that one was lost.
        self.given: Sequence[GivenWebhook | GivenClick] = [
            *reversed(webhooks),
            *clicks,
            *webhooks[1::3],
            clicks[0],
        ]
        self._counts = {
            "delivered": 4,
            "opened": 2,
            "bounced_permanent": 1,
            "bounced_transient": 1,
            "complained": 1,
            "failed_later": 1,
            "unsubscribed": 2,
        }
        self._suppressed = {self._address(number) for number in (1, 2, 3, 4)}

    def _address(self, number: int) -> str:
        return f"reader{number}@{self._lap}.test"

    def _webhook(
        self, kind: str, number: int, tags: Mapping[str, str], **more: JsonValue
    ) -> GivenWebhook:
        data: dict[str, JsonValue] = {
            "to": [self._address(number)],
            "from": f"Acme <news@{self._lap}.test>",
            "email_id": f"id-{number}",
            "tags": {**tags},
            **more,
        }
        at = datetime.now(UTC).isoformat()
        payload: dict[str, JsonValue] = {"type": f"email.{kind}", "created_at": at, "data": data}
        return GivenWebhook(f"msg_{self._lap}_{kind}_{number}", payload)

    def missing(self, client: Client) -> str:
        """Return what has not followed yet, or wrongly; empty if all is as it must be."""
        wrong = ""
        fields = cast(dict[bytes, bytes], client.hgetall(keys.event_counts(*self._name)))
        counts = read_event_counts([word for pair in fields.items() for word in pair])
        if counts != self._counts:
            wrong += f"events of {self._lap}: {counts}, should be {self._counts}. "
        gone = {
            address
            for address in suppression.export(client, self._name.organization)
            if address.startswith("reader")
        }
        if gone != self._suppressed:
            wrong += f"suppressed of {self._lap}: {gone}, should be {self._suppressed}. "
        hold = Holds(client).read([ACCOUNT])[ACCOUNT].holds.get(f"{self._lap}.test")
        if hold is None or (hold.by, hold.reason) != (By.EVENT, _TROUBLE):
            wrong += f"hold of {self._lap}: {hold}. "
        return wrong


class Courier:
    """Posts events to a gateway until each is acknowledged, as Resend does; then stops it.

    A gateway that was killed is started again, one that is frozen is woken. Only `tend` acts on the
    gateway, and is to be called all the time.

    Args:
        port: of the `KafkaReferee`.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        port: int,
        script: Script,
        given: Sequence[GivenWebhook | GivenClick],
    ) -> None:
        self._environment = {**environment, **ENVIRONMENT}
        self._port = port
        self._script = script
        self._given = given
        self.statuses: Counter[int] = Counter()
        """Of the answers; 0 for none."""
        self._ends: list[int] = []
        self._gateway = self._start()
        self._is_stopping = False
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._post_all, name="courier", daemon=True)
        self._thread.start()

    @property
    def ends(self) -> list[int]:
        """The exit codes of the gateways that have ended."""
        code = self._gateway.process.poll()
        return self._ends if code is None else [*self._ends, code]

    @property
    def is_done(self) -> bool:
        """Whether all is acknowledged, and the gateway has stopped."""
        return not self._thread.is_alive() and self._gateway.process.poll() is not None

    def tend(self) -> None:
        """Replace or wake the gateway; stop it when all is acknowledged."""
        frozen_at = self._script.frozen_at
        code = self._gateway.process.poll()
        if code is not None:
            if not self._is_stopping:
                self._gateway.__exit__(None, None, None)
                self._ends.append(code)
                self._gateway = self._start()
        elif frozen_at is not None:
            if time.monotonic() >= frozen_at + FROZEN_S:
                self._script.wake()
        elif not self._thread.is_alive() and not self._is_stopping:
            self._is_stopping = True
            self._gateway.process.terminate()

    def close(self) -> None:
        """Kill the gateway, and post no more."""
        self._closed.set()
        self._script.wake()
        self._gateway.__exit__(None, None, None)
        self._thread.join(10)

    def _start(self) -> GatewayProcess:
        command = ("-m", "tests.faults.gateway", str(self._port))
        gateway = GatewayProcess(self._environment, command).__enter__()
        self._script.pid = gateway.process.pid
        return gateway

    def _post_all(self) -> None:
        for each in self._given:
            for status in self._attempts(each):
                self.statuses[status] += 1
                if status == 200:
                    break

    def _attempts(self, each: GivenWebhook | GivenClick) -> Iterator[int]:
        """Yield the status of one attempt after another; 0 for no answer."""
        while not self._closed.is_set():
            try:
                yield each.post(self._gateway)
            except urllib3.exceptions.HTTPError:
                yield 0
            self._closed.wait(_AGAIN_S)
