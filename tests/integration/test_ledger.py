"""What Redis must not forget, and what it is never asked to do twice."""

import secrets
import threading
from collections.abc import Callable, Iterator

import pytest
from redis import exceptions

from streamer.ledger import keys
from streamer.ledger.campaigns import CampaignProbe
from streamer.ledger.claims import Claim, Claims, Conflict, Pinned, TakenOverError
from streamer.ledger.connection import Client, connect
from streamer.ledger.epoch import Epoch, LedgerLostError
from streamer.ledger.input_offsets import InputOffsets
from streamer.ledger.limiter import Held, Limiter, SendPermit, Slot, SlotUnavailable
from streamer.ledger.persistence import is_durable
from streamer.ledger.probe import Probes
from streamer.model.campaign import CampaignState
from streamer.model.event import parse
from streamer.model.payload import Payload
from streamer.model.record import Record, RecordId
from streamer.model.result import BatchResult, ItemResult, SplitProgress
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


def test_the_life_of_a_batch(client: Client, claims: Claims, organization: str) -> None:
    records = _records(organization, 1, 2)
    batch = secrets.token_hex(12)
    probes = Probes(client, Epoch.establish(client, ()))
    assert probes.of(organization, records).claims == {}
    assert isinstance(
        claims.pin(organization, batch, "main", "a.test", records, _payload()), Pinned
    )
    found = probes.of(organization, records).claims
    assert found == {item: Claim(batch, item, records[item].record_id) for item in (0, 1)}
    assert all(found[item].is_of(record) for item, record in enumerate(records))
    stored = claims.load(organization, batch)
    assert stored is not None
    assert stored.payload is not None
    assert (stored.payload.body, stored.result) == (_payload().body, None)
    assert (stored.account, stored.sender) == ("main", "a.test")
    assert 0 <= stored.age_s < 60

    assert claims.resolve(organization, batch, "", _RESULT) == _RESULT
    late = BatchResult(1, [ItemResult("window_closed", None)] * 2)
    assert claims.resolve(organization, batch, "", late) == _RESULT
    resolved = claims.load(organization, batch)
    assert resolved is not None
    assert (resolved.payload, resolved.result) == (None, _RESULT)


def test_a_pin_is_all_or_nothing(client: Client, claims: Claims, organization: str) -> None:
    first, second = secrets.token_hex(12), secrets.token_hex(12)
    claims.pin(organization, first, "main", "a.test", _records(organization, 5), _payload(1))
    client.sadd(keys.suppressed(organization), "user6@example.com")
    again = _records(organization, 4, 105, 6)  # 105 has the address of 5
    answer = claims.pin(organization, second, "main", "a.test", again, _payload(3))
    assert isinstance(answer, Conflict)
    assert answer.suppressed == {2}
    assert answer.claims.keys() == {1}
    assert answer.claims[1].batch_id == first
    assert not answer.claims[1].is_of(again[1])
    assert Probes(client, Epoch.establish(client, ())).of(organization, again[:1]).claims == {}
    assert claims.load(organization, second) is None


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


def test_campaigns_do_not_share_claims(claims: Claims, organization: str) -> None:
    one, other = (_records(organization, 1, campaign=name) for name in ("one", "other"))
    for records in (one, other):
        batch = secrets.token_hex(12)
        assert isinstance(
            claims.pin(organization, batch, "main", "a.test", records, _payload(1)), Pinned
        )


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


def test_a_missing_batch_is_reported_as_lost(claims: Claims, organization: str) -> None:
    assert claims.load(organization, "ab" * 12) is None
    assert claims.resolve(organization, "ab" * 12, "", _RESULT) is None


@pytest.fixture
def old_batch(client: Client, claims: Claims, organization: str) -> str:
    """A batch that was pinned an hour ago."""
    batch = secrets.token_hex(12)
    claims.pin(organization, batch, "main", "a.test", _records(organization, 1), _payload(1))
    _make_older(client, organization, batch)
    return batch


def _make_older(client: Client, organization: str, batch: str) -> None:
    client.hincrby(keys.batch(organization, batch), "pinned_at", -3_600_000)


def _adopted_age_s(claims: Claims, organization: str, batch: str, owner: str) -> float:
    stored = claims.adopt(organization, batch, owner)
    assert stored is not None
    return stored.age_s


def test_an_adopted_unaccepted_batch_restarts_its_age(
    client: Client, claims: Claims, organization: str, old_batch: str
) -> None:
    assert claims.defer(organization, old_batch, "")
    assert _adopted_age_s(claims, organization, old_batch, "one") < 60
    _make_older(client, organization, old_batch)
    # The one may have sent it, and never lays it down.
    assert _adopted_age_s(claims, organization, old_batch, "two") >= 3600


def test_a_possibly_sent_batch_keeps_its_age(
    claims: Claims, organization: str, old_batch: str
) -> None:
    # Who pinned it died: nobody knows at what.
    assert _adopted_age_s(claims, organization, old_batch, "one") >= 3600
    assert not claims.defer(organization, old_batch, "one")
    assert _adopted_age_s(claims, organization, old_batch, "two") >= 3600


def test_only_the_owner_defers_a_batch(
    client: Client, claims: Claims, organization: str, old_batch: str
) -> None:
    assert claims.defer(organization, old_batch, "")
    assert _adopted_age_s(claims, organization, old_batch, "one") < 60
    _make_older(client, organization, old_batch)
    assert not claims.defer(organization, old_batch, "")  # late
    assert _adopted_age_s(claims, organization, old_batch, "two") >= 3600


def test_a_repeated_pin_changes_nothing(claims: Claims, organization: str) -> None:
    """As after a reply that was lost."""
    batch = secrets.token_hex(12)
    for payload, offset in ((_payload(1), 1), (Payload([b'{"other":1}']), 2)):
        pinned = claims.pin(
            organization, batch, "main", "a.test", _records(organization, offset), payload
        )
        assert isinstance(pinned, Pinned)
    stored = claims.load(organization, batch)
    assert stored is not None
    assert stored.payload is not None
    assert stored.payload.body == _payload(1).body


def test_a_repeated_pin_reports_an_adoption(
    claims: Claims, organization: str, old_batch: str
) -> None:
    claims.adopt(organization, old_batch, "one")
    with pytest.raises(TakenOverError):
        claims.pin(
            organization, old_batch, "main", "a.test", _records(organization, 1), _payload(1)
        )


def test_adopting_twice_changes_nothing(claims: Claims, organization: str, old_batch: str) -> None:
    assert claims.defer(organization, old_batch, "")
    for _ in range(2):
        assert _adopted_age_s(claims, organization, old_batch, "one") < 60
    assert claims.defer(organization, old_batch, "one")


def test_a_former_owner_cannot_write(claims: Claims, organization: str, old_batch: str) -> None:
    claims.own(organization, old_batch, "")
    claims.adopt(organization, old_batch, "one")
    result = BatchResult(1, [ItemResult.sent("id")])
    for split_progress in (None, SplitProgress({""})):
        with pytest.raises(TakenOverError):
            claims.own(organization, old_batch, "", split_progress)
    with pytest.raises(TakenOverError):
        claims.resolve(organization, old_batch, "", result)
    claims.own(organization, old_batch, "one")
    assert claims.resolve(organization, old_batch, "one", result) == result
    # The first result counts, for whoever asks.
    assert claims.resolve(organization, old_batch, "", _RESULT) == result
    with pytest.raises(TakenOverError):
        claims.own(organization, old_batch, "one")


def test_an_adopter_sees_the_split_progress(
    claims: Claims, organization: str, old_batch: str
) -> None:
    parts = {".0": [ItemResult.sent("x"), ItemResult("rejected", "no")]}
    split_progress = SplitProgress({"", ".1"}, parts, 3, {".1.0"})
    claims.own(organization, old_batch, "", split_progress)
    for found in (
        claims.load(organization, old_batch),
        claims.adopt(organization, old_batch, "one"),
    ):
        assert found is not None
        assert found.split_progress == split_progress


def test_members_of_a_deferred_batch_can_be_decided_again(
    client: Client, claims: Claims, organization: str
) -> None:
    batch, other = secrets.token_hex(12), secrets.token_hex(12)
    records = _records(organization, 1) + _records(organization, 2, campaign="d")
    mails = [b'{"to":["%s"]}' % record.required_address.encode() for record in records]
    claims.pin(organization, batch, "main", "a.test", records, Payload(mails))
    stored = claims.load(organization, batch)
    assert stored is not None
    assert not claims.unpin(organization, batch, stored)  # it is being sent
    assert claims.defer(organization, batch, "")
    stored = claims.load(organization, batch)
    assert stored is not None
    assert stored.deferred
    for _ in range(2):  # the first reply may be lost
        assert claims.unpin(organization, batch, stored)
    gone = claims.load(organization, batch)
    assert gone is not None
    assert (gone.unpinned, gone.payload, gone.result) == (True, None, None)
    assert claims.adopt(organization, batch, "one") is None
    again = claims.pin(organization, other, "main", "a.test", records, Payload(mails))
    assert isinstance(again, Pinned)
    # What others have claimed since stays theirs.
    client.hset(keys.batch(organization, batch), "laid_down", 1)
    client.hdel(keys.batch(organization, batch), "unpinned")
    assert claims.unpin(organization, batch, stored)
    found = Probes(client, Epoch.establish(client, ())).of(organization, records).claims
    assert {claim.batch_id for claim in found.values()} == {other}


def test_a_deferred_batch_expires_with_its_claims(
    client: Client, claims: Claims, organization: str, old_batch: str
) -> None:
    client.expire(keys.batch(organization, old_batch), 100)
    assert claims.defer(organization, old_batch, "")
    assert 0 < client.ttl(keys.batch(organization, old_batch)) <= 100


def test_claims_and_batches_expire(client: Client, claims: Claims, organization: str) -> None:
    batch = secrets.token_hex(12)
    claims.pin(organization, batch, "main", "a.test", _records(organization, 1), _payload(1))
    claims.resolve(organization, batch, "", BatchResult(1, [ItemResult("sent", "x")]))
    found = [key.decode() for key in client.scan_iter(f"{{{organization}}}:*")]
    lasting = keys.organization_epoch(organization)
    assert lasting in found
    assert len(found) == 4
    assert all(0 < client.ttl(key) <= 90_000 for key in found if key != lasting)


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
    assert is_durable(client)


def test_send_slots_are_evenly_spaced(client: Client, organization: str) -> None:
    limiter = Limiter(client, Epoch.establish(client, ()))
    waits = [_wait(limiter.take(organization, 10.0)) for _ in range(9)]
    assert waits[0] == 0
    # Each wait is shorter by what the takes before it took, and never longer than the spacing.
    assert all(wait <= 0.1016 * number for number, wait in enumerate(waits))
    assert waits[-1] > 0.1016 * 8 - 0.8
    limiter.pause(organization, 30.0)
    later = limiter.take(organization, 10.0)
    assert isinstance(later, SlotUnavailable)
    assert 29 < later.wait_s <= 30


def _wait(slot: Slot | SlotUnavailable | Held) -> float:
    assert isinstance(slot, Slot)
    return slot.wait_s


def test_no_second_exceeds_the_rate_limit(client: Client, organization: str) -> None:
    limiter = Limiter(client, Epoch.establish(client, ()))
    waits = [_permit(limiter, organization).wait_s for _ in range(30)]
    assert waits[:10] == [0] * 10
    # Ten at once, and the next ten a second later, whatever the takes themselves took.
    assert all(wait > 0.9 for wait in waits[10:20])
    assert all(wait > 0.9 for wait in waits[20:])
    assert all(wait <= 10 / 9.9 for wait in waits)


def test_calls_behind_a_late_call_are_delayed(client: Client, organization: str) -> None:
    limiter = Limiter(client, Epoch.establish(client, ()))
    late = _permit(limiter, organization, rate=1.0)
    limiter.adjust_permit(organization, late, 30.0)
    limiter.adjust_permit(organization, SendPermit("forgotten", 0.0), 60.0)
    # A whole period from now, which is the most there is: it would be less by a round trip.
    assert _permit(limiter, organization, rate=1.0).wait_s == round(1e6 / 0.99) / 1e6


def _permit(limiter: Limiter, account: str, rate: float = 10.0) -> SendPermit:
    permit = limiter.acquire_permit(account, rate)
    assert permit is not None
    return permit


def test_a_slot_is_listed_before_use_despite_failures(
    make_redis: Callable[[], RedisServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    client = connect(RedisSettings(url=make_redis().url))
    limiter = Limiter(client, Epoch.establish(client, ()))

    def lost(*args: object) -> int:
        raise exceptions.ConnectionError("the reply was lost")

    with monkeypatch.context() as patch:
        patch.setattr(client, "sadd", lost)
        with pytest.raises(exceptions.ConnectionError):
            limiter.take("default", 10)
    assert isinstance(limiter.take("default", 10), Slot)
    # What is listed and not there was lost; what is not listed would be taken for new.
    assert client.sismember(keys.EPOCH_SLOTS, keys.account_epoch("default"))
    client.close()
