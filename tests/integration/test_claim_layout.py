"""How claims are stored, as campaigns grow, and what becomes of what an earlier version stored."""

import secrets
from base64 import b64decode
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from uuid import UUID

import orjson
import pytest
from redis import Redis

from streamer.ledger import campaigns, claim_reader, keys
from streamer.ledger.claims import Claims, Conflict, Pinned
from streamer.ledger.connection import Client, connect
from streamer.ledger.epoch import Epoch, LedgerLostError
from streamer.ledger.probe import Probes
from streamer.model.event import parse
from streamer.model.payload import Payload
from streamer.model.record import Record, RecordId
from streamer.model.result import BatchResult, ItemResult, SplitProgress
from streamer.settings import RedisSettings
from streamer.stack import RedisServer

_TOPIC = "campaign.recipients"
_BEFORE = Path(__file__).with_name("ledger_before.json")
"""A ledger that the version with hashes of 8192 buckets has written: for user0 to user5 of the
campaign acme/spring, whose records are at offsets 1000 to 1005 of partition 3. The batches 00… to
03… are resolved (0 and 1), pinned (2), halved (3) and deferred (4 and 5)."""
_EPOCH = "0123456789abcdef"
_TTL_S = 90_000
_SLACK_S = 3_600
_EACH = 100


@pytest.fixture
def client(make_redis: Callable[[], RedisServer]) -> Iterator[Client]:
    with closing(connect(RedisSettings(url=make_redis().url))) as one:
        yield one


@pytest.fixture
def before(client: Client) -> Client:
    """A ledger of the version before."""
    now = client.time()
    for each in orjson.loads(_BEFORE.read_bytes()):
        key, value = each["key"], each["value"]
        if each["type"] == "string":
            client.set(key, b64decode(value))
        elif each["type"] == "set":
            client.sadd(key, *map(b64decode, value))
        else:
            for name, text in value.items():
                client.hset(key, items=[b64decode(name), b64decode(text)])
            if client.hexists(key, "pinned_at"):
                client.hset(key, "pinned_at", str(now[0] * 1000))
            client.expire(key, _TTL_S)
    return client


def _claims(client: Client) -> tuple[Claims, Probes]:
    epoch = Epoch.establish(client, ())
    return Claims(client, epoch, _TTL_S), Probes(client, epoch)


def _records(
    numbers: Sequence[int], campaign: str = "spring", topic: str = _TOPIC, first_offset: int = 1000
) -> list[Record]:
    records = []
    for number in numbers:
        record = Record(RecordId(topic, 3, first_offset + number), None, None, None, 0.0)
        record.address = f"user{number}@example.com"
        event = {
            "organization_id": "acme",
            "campaign_id": campaign,
            "recipient_id": f"r-{number}",
            "email": record.address,
        }
        record.attach_event(parse(orjson.dumps(event)))
        records.append(record)
    return records


def _pin(claims: Claims, records: Sequence[Record]) -> str:
    batch = secrets.token_hex(12)
    payload = Payload([b'{"to":["%s"]}' % r.required_address.encode() for r in records])
    assert claims.pin("acme", batch, "default", "a.test", records, payload) == Pinned()
    return batch


def test_a_campaign_s_claims_stay_compact_and_are_found_as_it_grows(client: Client) -> None:
    claims, probes = _claims(client)
    batches = []
    for start in range(0, 60 * _EACH, _EACH):
        batches.append(_pin(claims, _records(range(start, start + _EACH))))
        probed = probes.of("acme", _records([0, start, start + _EACH]))
        assert {i: claim.batch_id for i, claim in probed.claims.items()} == {
            0: batches[0],
            1: batches[-1],
        }
    for start, batch in zip(range(0, 60 * _EACH, _EACH), batches, strict=True):
        records = _records(range(start, start + _EACH))
        found = probes.of("acme", records).claims
        assert [(c.batch_id, c.item) for c in found.values()] == [(batch, i) for i in range(_EACH)]
        assert all(found[item].is_of(record) for item, record in enumerate(records))
    assert isinstance(client, Redis)
    buckets = sorted(client.scan_iter(f"{keys.claims('acme', 'spring')}/*"))
    sizes = [client.hlen(bucket) for bucket in buckets]
    assert sum(sizes) == 60 * _EACH  # none is left behind where it was
    assert 60 <= len(buckets) <= 120
    assert max(sizes) <= 160
    assert all(client.object("ENCODING", bucket) == b"listpack" for bucket in buckets)
    lives = [client.ttl(bucket) for bucket in buckets]
    assert all(_TTL_S - 60 < life <= _TTL_S + _SLACK_S for life in lives)
    assert max(lives) <= client.ttl(keys.claims("acme", "spring"))


@pytest.mark.parametrize(
    ("had", "has_at_least", "has_at_most"),
    [
        (1_000, _TTL_S, _TTL_S + _SLACK_S),
        (_TTL_S - 10, _TTL_S, _TTL_S + _SLACK_S),
        (_TTL_S + 1_000, _TTL_S, _TTL_S + 1_000),  # enough: it is not set again
        (_TTL_S * 9, _TTL_S * 8, _TTL_S * 9),  # by a worker with other settings
    ],
)
def test_a_claim_lives_for_its_time_in_a_bucket_of_any_age(
    client: Client, had: int, has_at_least: int, has_at_most: int
) -> None:
    claims, _ = _claims(client)
    head = keys.claims("acme", "spring")
    _pin(claims, _records([1]))
    client.expire(f"{head}/0", had)
    client.expire(head, had + 20)
    _pin(claims, _records([2]))
    assert has_at_least < client.ttl(f"{head}/0") <= has_at_most
    assert client.ttl(f"{head}/0") <= client.ttl(head)


def test_claims_that_are_moved_to_a_new_bucket_live_for_their_time(client: Client) -> None:
    claims, _ = _claims(client)
    _pin(claims, _records(range(_EACH)))
    assert client.ttl(f"{keys.claims('acme', 'spring')}/1") > _TTL_S


def test_claims_of_several_topics_and_campaigns_are_told_apart(client: Client) -> None:
    claims, probes = _claims(client)
    mixed = _records([1, 2]) + _records([1], "autumn")
    batch = _pin(claims, mixed)
    other = _pin(claims, _records([3], topic="other"))
    found = probes.of("acme", [*mixed, *_records([3]), *_records([2], "autumn")]).claims
    assert {item: claim.batch_id for item, claim in found.items()} == {
        **dict.fromkeys(range(3), batch),
        3: other,
    }
    assert [found[item].is_of(mixed[item]) for item in range(3)] == [True] * 3
    assert found[3].record_id == RecordId("other", 3, 1003)


def test_a_campaign_that_is_dropped_leaves_no_claim(before: Client) -> None:
    claims, probes = _claims(before)
    for start in range(100, 700, _EACH):
        _pin(claims, _records(range(start, start + _EACH)))
    kept = _pin(claims, _records([0], "spring:1"))
    campaigns.drop(before, "acme", "spring")
    assert probes.of("acme", _records(range(700))).claims == {}
    assert probes.of("acme", _records([0], "spring:1")).claims[0].batch_id == kept
    left = {key.decode() for key in before.scan_iter("*claim*")}
    assert left == {
        keys.claims("acme", "spring:1"),
        f"{keys.claims('acme', 'spring:1')}/0",
        "{acme}:claims",
    }


def test_the_claims_and_batches_of_the_version_before_are_found(before: Client) -> None:
    claims, probes = _claims(before)
    assert claim_reader.find(before, "acme", "spring", "user2@example.com") is not None
    found = probes.of("acme", _records(range(7))).claims
    assert [(claim.batch_id, claim.item) for claim in found.values()] == [
        ("00" * 12, 0),
        ("00" * 12, 1),
        ("01" * 12, 0),
        ("02" * 12, 0),
        ("03" * 12, 0),
        ("03" * 12, 1),
    ]
    assert all(
        claim.is_of(record)
        for claim, record in zip(found.values(), _records(range(6)), strict=True)
    )
    answer = claims.pin(
        "acme", "ff" * 12, "default", "a.test", _records([2, 7]), Payload([b"{}", b"{}"])
    )
    assert isinstance(answer, Conflict)
    assert answer.claims.keys() == {0}

    result = BatchResult(
        2,
        [
            ItemResult.sent("49a3999c-0ce1-4ea6-ab68-afcd6dc2e794"),
            ItemResult("rejected", "no"),
        ],
    )
    resolved = claims.load("acme", "00" * 12)
    assert resolved is not None
    assert (resolved.result, resolved.account) == (result, "default")
    assert claims.resolve("acme", "00" * 12, "", BatchResult(1, [])) == result
    shown = claim_reader.find(before, "acme", "spring", "user1@example.com")
    assert shown is not None
    assert shown.batch is not None
    assert shown.batch.result == result


def test_the_batches_of_the_version_before_are_sent_to_their_end(before: Client) -> None:
    claims, probes = _claims(before)
    adopted = claims.adopt("acme", "01" * 12, "me")
    assert adopted is not None
    assert adopted.addresses == ["user2@example.com"]
    sent = BatchResult(1, [ItemResult.sent(str(UUID(int=7)))])
    assert claims.resolve("acme", "01" * 12, "me", sent) == sent
    again = claims.adopt("acme", "01" * 12, "other")
    assert again is not None
    assert (again.payload, again.result, again.account) == (None, sent, "default")

    halved = claims.adopt("acme", "02" * 12, "me")
    assert halved is not None
    assert halved.split_progress == SplitProgress({""}, {}, 1, set())

    deferred = claims.load("acme", "03" * 12)
    assert deferred is not None
    assert deferred.deferred
    assert claims.unpin("acme", "03" * 12, deferred)
    assert probes.of("acme", _records([4, 5])).claims == {}
    assert _pin(claims, _records([4, 5]))

    # A retry of the recipient who was rejected takes over the older claim.
    (retry,) = _records([1], first_offset=2000)
    retry.replaces = "00" * 12
    batch = _pin(claims, [retry])
    assert probes.of("acme", _records([1])).claims[0].batch_id == batch


def test_older_claims_are_looked_for_until_they_have_expired(before: Client) -> None:
    claims, probes = _claims(before)
    mark = keys.older_claims(keys.organization_epoch("acme"))
    assert not before.exists(mark)
    assert probes.of("acme", _records([2])).claims
    assert before.ttl(mark) == -1
    _pin(claims, _records([7]))
    assert _TTL_S - 60 < before.ttl(mark) <= _TTL_S
    before.expire(mark, 1_000)
    _pin(claims, _records([8]))
    assert before.ttl(mark) <= 1_000
    # An organization that is new has none.
    Epoch(before, _EPOCH).spread(keys.organization_epoch("new"))
    assert not before.exists(keys.older_claims(keys.organization_epoch("new")))


def test_a_worker_of_the_version_before_halts_where_it_would_not_see_claims(
    before: Client,
) -> None:
    slot = keys.organization_epoch("acme")
    claims, _ = _claims(before)
    assert before.get(slot) == _EPOCH.encode()
    _pin(claims, _records([7]))
    # Its scripts compare with the plain epoch, and write nothing if it is another.
    assert before.get(slot) not in (None, _EPOCH.encode())
    assert before.get(keys.EPOCH) == _EPOCH.encode()
    # So does this version with one that is newer than itself.
    before.set(slot, f"{_EPOCH}, layout 3")
    with pytest.raises(LedgerLostError, match="newer version"):
        _pin(claims, _records([8]))
