"""What one batch does while it is filled, from a queue that tests make."""

import secrets
import threading
from collections.abc import Callable
from itertools import count

import pytest

from streamer.flow.batcher import Batcher
from streamer.ledger.claims import Claims
from streamer.ledger.connection import connect
from streamer.ledger.epoch import Epoch
from streamer.ledger.holds import Holds
from streamer.ledger.limiter import Limiter
from streamer.ledger.probe import Probes
from streamer.model.event import parse
from streamer.model.payload import Payload
from streamer.model.reasons import Status
from streamer.model.record import Coordinates, Outcome, Record
from streamer.provider.client import ResendClient
from streamer.sandbox import DEFAULT_KEY, SandboxProcess
from streamer.settings import Redis as RedisSettings
from streamer.settings import Settings
from streamer.stack import Redis
from streamer.worker.delivery import Delivery
from streamer.worker.holding import Holding
from streamer.worker.pipeline import no_checkpoint
from streamer.worker.process import make_accounts, make_composer
from streamer.worker.sending import Sender
from streamer.worker.waiting import Waiting


def _record(organization: str, offset: int, address: str) -> Record:
    record = Record(Coordinates("t", 0, offset), None, None, None, 0.0)
    record.take(
        parse(
            b'{"organization_id":"%b","campaign_id":"c","recipient_id":"r","email":"e",'
            b'"message":{"from":"a@acme.test","subject":"s","text":"t"}}' % organization.encode()
        )
    )
    record.address = address
    return record


class _DuplicatesWithoutEnd(Batcher):
    """Always has more records of one address."""

    def __init__(self) -> None:
        super().__init__(100, 0.2)
        self._offsets = count(1)

    def take(self, organization: str, count: int) -> list[Record]:
        return [_record(organization, next(self._offsets), "had@example.com") for _ in range(count)]


def test_who_is_new_does_not_wait_for_all_duplicates_to_be_looked_at(
    make_redis: Callable[[], Redis], sandbox: SandboxProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESEND_API_KEY", DEFAULT_KEY)
    monkeypatch.setenv("STREAMER_UNSUBSCRIBE__REQUIRED", "false")
    settings = Settings()
    client = connect(RedisSettings(url=make_redis().url))
    epoch, accounts, waiting = Epoch.establish(client, ()), make_accounts(settings), Waiting()
    claims, limiter = Claims(client, epoch, 90_000), Limiter(client, epoch)
    organization = f"org-{secrets.token_hex(4)}"
    had = _record(organization, 0, "had@example.com")
    claims.pin(organization, secrets.token_hex(12), "default", "a.test", [had], Payload([b"{}"]))
    holding = Holding(Holds(client), limiter, accounts, 30.0)
    resend = ResendClient(sandbox.url, 30.0, 1)
    delivery = Delivery(
        settings,
        client,
        Probes(client, epoch),
        claims,
        make_composer(settings),
        accounts,
        Sender(settings.delivery, accounts, resend, limiter, holding, waiting),
        holding,
        _DuplicatesWithoutEnd(),
        waiting,
        no_checkpoint,
    )
    new = _record(organization, 1_000_000, "new@example.com")
    thread = threading.Thread(target=delivery.run, args=(organization, [new]), daemon=True)
    thread.start()
    thread.join(30)
    assert not thread.is_alive()
    assert isinstance(new.ending, Outcome)
    assert new.ending.status is Status.SENT
    client.close()
