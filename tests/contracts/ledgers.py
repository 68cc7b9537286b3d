"""The ledger in memory and the one in Redis, behind one face."""

import secrets
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Protocol

import orjson

from streamer.ledger import keys, suppression
from streamer.ledger.claims import Claims
from streamer.ledger.connection import Client
from streamer.ledger.epoch import Epoch
from streamer.ledger.probe import Probes
from streamer.model.event import parse
from streamer.model.payload import Payload
from streamer.model.record import Record, RecordId
from streamer.worker.delivery import PinnedBatches
from streamer.worker.filling import Lookup
from streamer.worker.finishing import FinishedBatches
from tests.kit.fakes.clock import FakeClock
from tests.kit.fakes.ledger import FakeLedger


class BatchCalls(PinnedBatches, FinishedBatches, Protocol):
    """All that workers ask of the ledger about batches."""


class LedgerUnderTest(ABC):
    """A ledger, and an organization that it does not know yet."""

    def __init__(self, batches: BatchCalls, lookup: Lookup) -> None:
        self.batches = batches
        self.lookup = lookup
        self.organization = f"org-{secrets.token_hex(4)}"

    @abstractmethod
    def suppress(self, *addresses: str) -> None:
        """Suppress addresses of the organization."""

    @abstractmethod
    def make_older(self, batch_id: str, seconds: float) -> None:
        """Let a batch have been pinned so much earlier; perhaps others too."""

    @abstractmethod
    def lose(self) -> None:
        """Lose all that is known of the organization."""

    def records(self, *numbers: int, campaign: str = "spring", first: int = 0) -> list[Record]:
        """A record to `userN@b.test` for each number N, at that offset after `first`."""
        return [self._record(number, campaign, first) for number in numbers]

    def _record(self, number: int, campaign: str, first: int) -> Record:
        record = Record(RecordId("t", 3, first + number), None, None, None, 0.0)
        event = {
            "organization_id": self.organization,
            "campaign_id": campaign,
            "recipient_id": "r",
            "email": f"user{number}@b.test",
        }
        record.attach_event(parse(orjson.dumps(event)))
        record.address = f"user{number}@b.test"
        return record


class LedgerInMemory(LedgerUnderTest):
    def __init__(self) -> None:
        self._clock = FakeClock()
        self._ledger = FakeLedger(self._clock)
        super().__init__(self._ledger, self._ledger)

    def suppress(self, *addresses: str) -> None:
        self._ledger.suppress(self.organization, *addresses)

    def make_older(self, batch_id: str, seconds: float) -> None:
        self._clock.advance(seconds)

    def lose(self) -> None:
        self._ledger.lose(self.organization)


class LedgerInRedis(LedgerUnderTest):
    def __init__(self, client: Client) -> None:
        self._client = client
        epoch = Epoch.establish(client, ())
        super().__init__(Claims(client, epoch, 90_000), Probes(client, epoch))

    def suppress(self, *addresses: str) -> None:
        suppression.add(self._client, self.organization, addresses)

    def make_older(self, batch_id: str, seconds: float) -> None:
        key = keys.batch(self.organization, batch_id)
        if self._client.hexists(key, "pinned_at"):
            self._client.hincrby(key, "pinned_at", -round(seconds * 1000))

    def lose(self) -> None:
        self._client.delete(*self._client.scan_iter(f"{{{self.organization}}}:*"))


def make_payload(records: Sequence[Record]) -> Payload:
    """A mail for each record."""
    return Payload([orjson.dumps({"to": [record.address], "n": "x"}) for record in records])
