"""What Redis must not forget: epochs and times to live, and pins made at once.

What workers rely on otherwise is in tests/contracts.
"""

import secrets
import threading
from collections.abc import Callable, Iterator

import pytest
from redis import exceptions

from streamer.ledger import epoch as epoch_module
from streamer.ledger import keys
from streamer.ledger.campaigns import CampaignProbe
from streamer.ledger.claims import Claims, Conflict, Pinned
from streamer.ledger.confirming import Argument, confirmed
from streamer.ledger.connection import Client, connect
from streamer.ledger.epoch import Epoch, LedgerLostError
from streamer.ledger.input_offsets import InputOffsets
from streamer.ledger.limiter import Limiter, Slot
from streamer.ledger.persistence import read_persistence
from streamer.ledger.probe import Probes
from streamer.model.campaign import CampaignState
from streamer.model.event import parse
from streamer.model.payload import Payload
from streamer.model.record import Record, RecordId
from streamer.model.result import BatchResult, ItemResult
from streamer.settings import RedisSettings as RedisSettings
from streamer.stack import RedisServer

_RESULT = BatchResult(2, [ItemResult("sent", "id-0"), ItemResult("rejected", "no")])


@pytest.fixture
def claims(client: Client) -> Claims:
    return Claims(client, Epoch.establish(client, ()), 90_000)


@pytest.fixture
def organization() -> str:
    return f"org-{secrets.token_hex(4)}"


def _records(organization: str, *offsets: int, campaign: str = "c") -> list[Record]:
    records = []
    for offset in offsets:
        record = Record(RecordId("topic", 3, offset), None, None, None, 0.0)
        record.address = f"user{offset % 100}@example.com"
        record.attach_event(
            parse(
                f'{{"organization_id":"{organization}","campaign_id":"{campaign}",'
                f'"recipient_id":"r","email":"e"}}'.encode()
            )
        )
        records.append(record)
    return records


def _payload(count: int = 2) -> Payload:
    return Payload([b'{"n":%d}' % number for number in range(count)])


def test_a_probe_returns_suppression_claims_and_campaigns(
    client: Client, claims: Claims, organization: str
) -> None:
    batch = secrets.token_hex(12)
    claims.pin(organization, batch, "main", "a.test", _records(organization, 2, 3), _payload())
    client.sadd(keys.suppressed(organization), "user1@example.com", "user3@example.com", "")
    client.hset(keys.campaign(organization, "other"), mapping={"state": "paused", "version": "v"})
    asked = [
        *_records(organization, 1, 2, 103, 4),
        *_records(organization, 2, campaign="other"),
        *_records(organization, 3),
        *_records(organization, 5),
    ]
    asked[5].replaces = batch
    asked[6].address = None
    probe = Probes(client, Epoch.establish(client, ())).of(organization, asked)
    # The one without an address is like one whose address is empty: others decide about it.
    assert probe.suppressed == {0, 2, 5, 6}
    assert {item: claim.item for item, claim in probe.claims.items()} == {1: 0, 2: 1}
    assert probe.campaigns == {
        "c": CampaignProbe(None, None),
        "other": CampaignProbe(CampaignState.PAUSED, "v"),
    }


def test_one_of_two_concurrent_pins_wins(claims: Claims, organization: str) -> None:
    answers: list[Pinned | Conflict] = []
    together = threading.Barrier(8)

    def pin() -> None:
        records = _records(organization, *range(50))
        together.wait()
        answers.append(
            claims.pin(organization, secrets.token_hex(12), "main", "a.test", records, _payload(50))
        )

    threads = [threading.Thread(target=pin) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(isinstance(answer, Pinned) for answer in answers) == 1
    assert all(len(a.claims) == 50 for a in answers if isinstance(a, Conflict))


def test_a_deferred_batch_expires_with_its_claims(
    client: Client, claims: Claims, organization: str
) -> None:
    batch = secrets.token_hex(12)
    claims.pin(organization, batch, "main", "a.test", _records(organization, 1), _payload(1))
    client.expire(keys.batch(organization, batch), 100)
    assert claims.defer(organization, batch, "")
    assert 0 < client.ttl(keys.batch(organization, batch)) <= 100


def test_claims_and_batches_expire(client: Client, claims: Claims, organization: str) -> None:
    batch = secrets.token_hex(12)
    claims.pin(organization, batch, "main", "a.test", _records(organization, 1), _payload(1))
    claims.resolve(organization, batch, "", BatchResult(1, [ItemResult("sent", "x")]))
    found = [key.decode() for key in client.scan_iter(f"{{{organization}}}:*")]
    lasting = keys.organization_epoch(organization)
    assert lasting in found
    assert len(found) == 4
    assert all(
        90_000 - 60 < client.ttl(key) <= 90_000 + 2 * 3_600 for key in found if key != lasting
    )


def test_a_ledger_is_recognised_by_its_stored_input_offsets(
    make_redis_client: Client,
) -> None:
    client = make_redis_client
    epoch = Epoch.establish(client, ())
    offsets = InputOffsets(client, "g", "ID")
    assert (offsets.read(), offsets.epochs()) == ({}, set())
    offsets.keep({}, epoch.name)
    offsets.keep({0: 7, 3: 42}, epoch.name)
    offsets.keep({3: 41}, epoch.name)
    assert offsets.read() == {0: 7, 3: 41}
    # Of a topic that was created again nothing was committed; the ledger is the same.
    again = InputOffsets(client, "g", "OTHER")
    assert again.read() == {}
    assert again.epochs() == {epoch.name}
    assert InputOffsets(client, "h", "ID").epochs() == set()
    assert Epoch.establish(client, offsets.epochs()).name == epoch.name
    client.delete(keys.EPOCH)
    with pytest.raises(LedgerLostError):
        Epoch.establish(client, offsets.epochs())


def test_a_lost_epoch_is_detected(make_redis_client: Client, organization: str) -> None:
    client = make_redis_client
    epoch = Epoch.establish(client, ())
    assert Epoch.establish(client, {epoch.name}).name == epoch.name
    claims = Claims(client, epoch, 90_000)
    claims.pin(
        organization, secrets.token_hex(12), "a", "a.test", _records(organization, 1), _payload(1)
    )
    client.flushall()
    for use in (
        epoch.verify,
        lambda: claims.pin(
            organization,
            secrets.token_hex(12),
            "a",
            "a.test",
            _records(organization, 1),
            _payload(1),
        ),
        lambda: Probes(client, epoch).of(organization, _records(organization, 1)),
        lambda: claims.load(organization, "ab" * 12),
        lambda: claims.resolve(organization, "ab" * 12, "", _RESULT),
        lambda: Limiter(client, epoch).take("a", 10.0),
        lambda: Epoch.establish(client, {epoch.name}),
    ):
        with pytest.raises(LedgerLostError):
            use()
    other = Epoch.establish(client, ())
    with pytest.raises(LedgerLostError, match=epoch.name):
        other.verify({epoch.name})


def test_a_slot_without_epoch_is_lost_unless_new(
    client: Client, claims: Claims, organization: str
) -> None:
    """As when one node of a cluster comes back empty."""
    probes = Probes(client, Epoch.establish(client, ()))
    records = _records(organization, 1)

    def pin(organization: str) -> Pinned | Conflict:
        batch = secrets.token_hex(12)
        return claims.pin(organization, batch, "a", "a.test", records, _payload(1))

    assert isinstance(pin(organization), Pinned)
    client.delete(*client.scan_iter(f"{{{organization}}}:*"))
    for use in (lambda: pin(organization), lambda: probes.of(organization, records)):
        with pytest.raises(LedgerLostError, match=keys.organization_epoch(organization)):
            use()
    assert client.get(keys.organization_epoch(organization)) is None
    other = f"{organization}-new"
    assert probes.of(other, records).claims == {}
    assert isinstance(pin(other), Pinned)


@pytest.fixture
def make_redis_client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    redis = RedisServer(tmp_path_factory.mktemp("redis") / "r")
    redis.start()
    one = connect(RedisSettings(url=redis.url))
    yield one
    one.close()
    redis.stop()


def test_the_stacks_redis_is_durable(client: Client) -> None:
    assert read_persistence(client).appendonly


def test_a_slot_is_listed_before_use_despite_failures(
    make_redis: Callable[[], RedisServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    client = connect(RedisSettings(url=make_redis().url))
    limiter = Limiter(client, Epoch.establish(client, ()))

    def lost(client: Client, key: str, *command: Argument) -> object:
        if command[0] == "SADD":
            raise exceptions.ConnectionError("the reply was lost")
        return confirmed(client, key, *command)

    with monkeypatch.context() as patch:
        patch.setattr(epoch_module, "confirmed", lost)
        with pytest.raises(exceptions.ConnectionError):
            limiter.take("default", 10)
    assert isinstance(limiter.take("default", 10), Slot)
    # What is listed and not there was lost; what is not listed would be taken for new.
    assert client.sismember(keys.EPOCH_SLOTS, keys.account_epoch("default"))
    client.close()
