"""What one batch does while it is filled, from a queue that tests make."""

import secrets
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from functools import partial
from itertools import count

import orjson
import pytest
from redis import exceptions

from streamer.flow.batcher import Batcher
from streamer.ledger import keys
from streamer.ledger.claims import Claims, Conflict, Pinned
from streamer.ledger.connection import Client, connect
from streamer.ledger.epoch import Epoch
from streamer.ledger.holds import Holds
from streamer.ledger.limiter import Limiter
from streamer.ledger.probe import Probes
from streamer.mail.compose import Composer
from streamer.model.campaign import Message
from streamer.model.event import RecipientEvent, parse
from streamer.model.payload import Payload
from streamer.model.reasons import Status
from streamer.model.record import Outcome, Parked, Record, RecordId
from streamer.provider.client import ResendClient
from streamer.sandbox import DEFAULT_KEY, Faults, SandboxProcess
from streamer.settings import RedisSettings as RedisSettings
from streamer.settings import Settings
from streamer.stack import RedisServer
from streamer.worker.account_states import AccountStateCache
from streamer.worker.build import make_sending
from streamer.worker.bulk import BulkStop
from streamer.worker.checkpoint import no_checkpoint
from streamer.worker.decisions import Decisions
from streamer.worker.definitions import Definitions
from streamer.worker.delivery import Delivery
from streamer.worker.filling import Filler
from streamer.worker.finishing import Finisher
from streamer.worker.process import make_accounts, make_composer
from streamer.worker.waiter import Waiter
from tests.kit.harness import wait_until


def _record(organization: str, offset: int, address: str, sender: str = "a@acme.test") -> Record:
    record = Record(RecordId("t", 0, offset), None, None, None, 0.0)
    message = {"from": sender, "subject": "s", "text": "t"}
    ids = {"organization_id": organization, "campaign_id": "c", "recipient_id": "r", "email": "e"}
    record.attach_event(parse(orjson.dumps({**ids, "message": message})))
    record.address = address
    return record


class _DuplicatesWithoutEnd(Batcher):
    """Always has more records of one address."""

    def __init__(self) -> None:
        super().__init__(100, 0.2)
        self._offsets = count(1)

    def take(self, organization: str, count: int) -> list[Record]:
        return [_record(organization, next(self._offsets), "had@example.com") for _ in range(count)]


class _LosesReplies(Claims):
    """The first pin is made, and its reply lost."""

    def __init__(self, client: Client, epoch: Epoch) -> None:
        super().__init__(client, epoch, 90_000)
        self._pins = count()

    def pin(
        self,
        organization: str,
        batch_id: str,
        account: str,
        sender: str,
        records: Sequence[Record],
        payload: Payload,
        expires_at: datetime | None = None,
    ) -> Pinned | Conflict:
        answer = super().pin(organization, batch_id, account, sender, records, payload, expires_at)
        if next(self._pins) == 0:
            raise exceptions.TimeoutError("the reply is lost")
        return answer


@pytest.fixture
def client(make_redis: Callable[[], RedisServer]) -> Iterator[Client]:
    one = connect(RedisSettings(url=make_redis().url))
    yield one
    one.close()


@pytest.fixture
def make_delivery(
    client: Client, sandbox: SandboxProcess, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Delivery]:
    """Deliveries of one Redis, to the sandbox."""
    monkeypatch.setenv("RESEND_API_KEY", DEFAULT_KEY)
    monkeypatch.setenv("STREAMER_UNSUBSCRIBE__REQUIRED", "false")
    settings = Settings()
    epoch, accounts, waiter = Epoch.establish(client, ()), make_accounts(settings), Waiter()
    limiter = Limiter(client, epoch)
    resend = ResendClient(sandbox.url, 30.0)

    def make(
        batcher: Batcher, make_claims: Callable[[Client, Epoch], Claims] = _claims
    ) -> Delivery:
        claims = make_claims(client, epoch)
        account_states = AccountStateCache(Holds(client), limiter, accounts, 30.0)
        sending = make_sending(
            settings.delivery, accounts, resend, claims, limiter, account_states, waiter
        )
        filler = Filler(
            settings.batch,
            batcher,
            Probes(client, epoch),
            Decisions(Definitions(client), accounts, account_states, waiter),
            make_composer(settings),
            BulkStop(settings.breaker, client, waiter),
            waiter,
        )
        finisher = Finisher(
            claims, accounts, sending.sender, account_states, waiter, no_checkpoint, 30.0
        )
        return Delivery(
            batcher, filler, finisher, claims, accounts, sending.slots, waiter, no_checkpoint
        )

    return make


def _claims(client: Client, epoch: Epoch) -> Claims:
    return Claims(client, epoch, 90_000)


def test_a_pin_with_a_lost_reply_is_made_once(
    make_delivery: Callable[..., Delivery], sandbox: SandboxProcess
) -> None:
    """Pinned again with what is next in the queue, its first members would be `sent` unmailed."""
    organization = f"org-{secrets.token_hex(4)}"
    records = [_record(organization, n, f"user{n}@example.com") for n in range(200)]
    batcher = Batcher(100, 0.0)
    batcher.add(records[100:])
    delivery = make_delivery(batcher, _LosesReplies)
    delivery.run(organization, records[:100])
    delivery.run(organization, batcher.take(organization, 100))
    mailed = {each.email_id: each.address for each in sandbox.acceptances()}
    assert len(mailed) == 200
    for record in records:
        assert isinstance(record.resolution, Outcome)
        assert mailed[record.resolution.email_id or ""] == record.address


def test_addresses_suppressed_while_deferred_are_not_mailed(
    make_delivery: Callable[..., Delivery], client: Client, sandbox: SandboxProcess
) -> None:
    organization = f"org-{secrets.token_hex(4)}"
    records = [_record(organization, n, f"user{n}@example.com") for n in range(2)]
    batcher = Batcher(100, 0.0)
    sandbox.set_faults(Faults(quota="daily"))
    make_delivery(batcher).run(organization, records)
    assert all(isinstance(record.resolution, Parked) for record in records)
    sandbox.reset_faults()
    client.sadd(keys.suppressed(organization), "user0@example.com")
    client.delete(keys.account_holds("default"))
    again = [_record(organization, n, f"user{n}@example.com") for n in range(2)]
    later = make_delivery(batcher)
    later.run(organization, again)
    later.run(organization, batcher.take(organization, 100))
    outcomes = [record.resolution for record in again if isinstance(record.resolution, Outcome)]
    assert [outcome.reason for outcome in outcomes] == ["suppressed", None]
    assert [each.address for each in sandbox.acceptances()] == ["user1@example.com"]


def test_new_recipients_do_not_wait_for_many_duplicates(
    make_delivery: Callable[..., Delivery],
) -> None:
    organization = f"org-{secrets.token_hex(4)}"
    had = _record(organization, 0, "had@example.com")
    make_delivery(Batcher(100, 0.0)).run(organization, [had])
    delivery = make_delivery(_DuplicatesWithoutEnd())
    new = _record(organization, 1_000_000, "new@example.com")
    thread = threading.Thread(target=delivery.run, args=(organization, [new]), daemon=True)
    thread.start()
    thread.join(30)
    assert not thread.is_alive()
    assert isinstance(new.resolution, Outcome)
    assert new.resolution.status is Status.SENT


def test_other_senders_do_not_wait_for_a_failing_batch(
    make_delivery: Callable[..., Delivery], sandbox: SandboxProcess
) -> None:
    organization = f"org-{secrets.token_hex(4)}"
    stuck = _record(organization, 0, "user0@example.com")
    other = _record(organization, 1, "user1@example.com", sender="b@other.test")
    twin = _record(organization, 2, "user0@example.com")
    sandbox.set_faults(Faults(fail_addresses=frozenset({"user0@example.com"})))
    batcher = Batcher(100, 0.0)
    delivery = make_delivery(batcher)
    run = partial(delivery.run, organization, [stuck, other, twin])
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    wait_until(lambda: batcher.queued(organization), 10, "it waits for another batch")
    delivery.run(organization, batcher.take(organization, 100))
    assert isinstance(other.resolution, Outcome)
    assert other.resolution.status is Status.SENT
    assert stuck.resolution is None
    assert isinstance(twin.resolution, Outcome)
    assert twin.resolution.reason == "duplicate"
    sandbox.reset_faults()
    thread.join(20)
    assert isinstance(stuck.resolution, Outcome)


def test_mails_of_two_senders_are_rendered_once(
    make_delivery: Callable[..., Delivery], monkeypatch: pytest.MonkeyPatch
) -> None:
    organization = f"org-{secrets.token_hex(4)}"
    senders = ("a@acme.test", "b@other.test")
    records = [
        _record(organization, n, f"user{n}@example.com", sender=senders[n % 2]) for n in range(40)
    ]
    rendered: Counter[str] = Counter()
    compose = Composer.compose

    def counted(composer: Composer, event: RecipientEvent, address: str, message: Message) -> bytes:
        rendered[address] += 1
        return compose(composer, event, address, message)

    monkeypatch.setattr(Composer, "compose", counted)
    batcher = Batcher(100, 0.0)
    delivery = make_delivery(batcher)
    delivery.run(organization, records)
    while queued := batcher.take(organization, 100):
        delivery.run(organization, queued)
    assert all(isinstance(record.resolution, Outcome) for record in records)
    assert rendered == {record.address: 1 for record in records}
