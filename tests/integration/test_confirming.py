"""What replicas, or the disk, confirm; and what they do not."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from streamer.ledger.confirming import ConfirmedScript, UnconfirmedError, confirmed
from streamer.ledger.connection import UNREACHABLE, SingleClient, connect
from streamer.ledger.persistence import UnsafeRedisError, check_persistence
from streamer.model.campaign import CampaignName
from streamer.model.progress import CountDelta
from streamer.progress.fold import Share
from streamer.progress.store import Store, Update
from streamer.settings import RedisSettings as RedisSettings
from streamer.stack import RedisServer
from tests.kit.harness import wait_until
from tests.kit.redis_replicas import ReplicaSet

_KEY = "{acme}:x"


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[ReplicaSet]:
    """A primary and a replica."""
    one = ReplicaSet(tmp_path, 1, sentinels=0)
    one.start()
    yield one
    one.stop()


def test_what_another_connection_wrote_is_confirmed_too(pair: ReplicaSet) -> None:
    primary, replica = pair.servers
    client = connect(RedisSettings(url=primary.url, replicas=1))
    script = ConfirmedScript(client, "return redis.call('SETNX', KEYS[1], ARGV[1])")
    assert script([_KEY], ["1"]) == 1
    primary.cut_off_replicas()
    other = connect(RedisSettings(url=primary.url))
    other.set("{acme}:y", "unconfirmed")
    # Neither writes anything, and the server alone would say of a fresh connection that all it
    # wrote, which is nothing, has been replicated.
    for _ in range(2):
        with pytest.raises(UnconfirmedError, match="0 of 1 replicas"):
            confirmed(client, "{acme}:y", "GET", "{acme}:y")
        with pytest.raises(UnconfirmedError):
            script([_KEY], ["1"])
    primary.heal()
    wait_until(lambda: primary.replicas() == 1, 30, "it is back")
    assert confirmed(client, "{acme}:y", "GET", "{acme}:y") == b"unconfirmed"
    primary.kill()
    replica.ask("REPLICAOF", "NO", "ONE")
    # It does not know the script.
    moved = connect(RedisSettings(url=replica.url))
    assert moved.get("{acme}:y") == b"unconfirmed"
    assert ConfirmedScript(moved, "return redis.call('GET', KEYS[1])")([_KEY], []) == b"1"
    for each in (client, other, moved):
        each.close()


def test_the_disk_confirms(make_redis: Callable[[], RedisServer]) -> None:
    redis = make_redis()
    client = connect(RedisSettings(url=redis.url, fsync=True))
    assert isinstance(client, SingleClient)
    check_persistence(client)
    for mode in ("everysec", "always"):
        client.config_set("appendfsync", mode)
        assert confirmed(client, _KEY, "SET", _KEY, "1")
    client.config_set("appendfsync", "no")
    with pytest.raises(UnconfirmedError, match="the disk"):
        confirmed(client, _KEY, "SET", _KEY, "1")
    with pytest.raises(UnsafeRedisError, match="appendfsync"):
        check_persistence(client)
    client.config_set("appendonly", "no")
    with pytest.raises(UNREACHABLE):  # another server took over: it is waited for
        confirmed(client, _KEY, "SET", _KEY, "1")
    with pytest.raises(UnsafeRedisError, match="append-only"):
        check_persistence(client)
    client.close()


def test_counts_are_confirmed_before_the_projector_reads_on(pair: ReplicaSet) -> None:
    """It would not notice a failover that closed its idle connection, and forgot what it added."""
    primary, _ = pair.servers
    store = Store(connect(RedisSettings(url=primary.url, replicas=1)), "g")
    generation = store.open().generation
    names = [CampaignName("acme", "spring"), CampaignName("bolt", "summer")]

    def apply(start: int) -> list[int | None]:
        share = Share(start, start + 1, CountDelta({"sent": 1}))
        return store.apply(generation, [Update(("t", 0), name, share) for name in names])

    assert apply(0) == [None, None]
    primary.cut_off_replicas()
    with pytest.raises(UnconfirmedError):
        apply(1)
    primary.heal()
    wait_until(lambda: primary.replicas() == 1, 30, "it is back")
    assert apply(1) == [None, None]
    assert [each.counts.resolutions for each in store.snapshots(names)] == [{("sent", ""): 2}] * 2
