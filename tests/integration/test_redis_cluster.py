"""The main job on a Redis Cluster: each script and each pipeline touches one slot, or is split."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import orjson
import pytest
from redis import Redis, RedisCluster

from streamer.ledger import keys
from streamer.ledger.claims import claim_place
from streamer.ledger.connection import UNREACHABLE, Client, RefusedError, connect
from streamer.ledger.holds import Holds
from streamer.sandbox import Faults, SandboxProcess
from streamer.settings import Redis as RedisSettings
from streamer.stack import Redis as ServerOfItsOwn
from tests.kit.operator import Answer, Operator
from tests.kit.redis_cluster import ClusterNode, start_cluster, stop_cluster
from tests.kit.world import World, wait_until


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[list[ClusterNode]]:
    started = start_cluster(tmp_path)
    yield started
    stop_cluster(started)


def test_campaigns_go_through_a_cluster(
    nodes: list[ClusterNode], make_world: Callable[..., World], sandbox: SandboxProcess
) -> None:
    world = make_world(redis=nodes[0], cluster=True)
    world.settings |= {
        "STREAMER_PROGRESS__EMBEDDED": "true",
        "STREAMER_DELIVERY__HOLD_PROBE_S": "1",
    }
    operator = Operator.of_world(world)

    # Of several organizations, whose keys lie on several nodes.
    world.organizations = {f"{world.organization}-{letter}" for letter in "abcdef"}
    events = [
        world.event(number, organization_id=organization)
        for number in range(60)
        for organization in sorted(world.organizations)
    ]
    first = min(world.organizations)
    operator.run("suppress", "add", first, "user7@example.com")
    operator.run("campaign", "pause", f"{first}/spring")
    sandbox.order(Faults(quota="daily"))
    world.produce(events)
    with world.worker(0), world.worker(1):
        wait_until(lambda: len(world.parked()) == 360, 30, "all wait for the account")
        sandbox.calm()
        world.await_endings(300)
        operator.run("campaign", "resume", f"{first}/spring")
        world.await_endings(360)
        world.produce(events)
        world.await_endings(720)

        def progress() -> Answer:
            report = operator.answer("progress", f"{first}/spring")
            return {name: report[name] for name in ("received", "sent", "skipped")}

        wanted = {"received": 120, "sent": 59, "skipped": 61}
        wait_until(lambda: progress() == wanted, 30, "all are counted")
        trace = ("trace", f"{first}/spring", "--email", "user8@example.com", "--json")
        found = orjson.loads(operator.run(*trace).stdout)
        assert found["ledger"][0]["claim"]["batch"]["result"]["status"] == "sent"
        operator.run("campaign", "drop", f"{first}/spring", "--yes")
        assert not world.redis.exists(claim_place(first, "spring", "user8@example.com")[0])
    assert world.words() == {
        ("sent", None): 359,
        ("skipped", "suppressed"): 2,
        ("skipped", "duplicate"): 359,
    }
    world.judge(suppressed_too=False)


def test_a_node_that_alone_forgot_stops_the_workers(
    nodes: list[ClusterNode], make_world: Callable[..., World], sandbox: SandboxProcess
) -> None:
    world = make_world(redis=nodes[0], cluster=True)
    assert isinstance(world.redis, RedisCluster)

    def port(key: str) -> int:
        assert isinstance(world.redis, RedisCluster)
        node = world.redis.get_node_from_key(key)  # type: ignore[no-untyped-call]  # redis-py has none
        assert node is not None
        return int(node.port)

    organization = next(
        name
        for name in (f"{world.organization}-{number}" for number in range(1_000))
        if port(keys.suppressed(name)) != port(keys.EPOCH)
    )
    events = [world.event(number, organization_id=organization) for number in range(50)]
    world.produce(events)
    with world.worker():
        world.await_endings(50)
    with Redis(port=port(keys.suppressed(organization))) as node:
        node.flushall()
    world.produce(events)
    worker = world.start_worker()
    assert worker.wait() == 1
    assert keys.organization_epoch(organization) in worker.words()
    assert sandbox.stats().accepted == 50
    # As the log says, for who accepts that all of them are mailed again.
    assert f"DEL {keys.EPOCH_SLOTS}" in worker.words()
    world.redis.delete(keys.EPOCH_SLOTS)
    with world.worker():
        world.await_endings(100)
    assert sandbox.stats().accepted == 100


def test_a_cluster_says_what_passes_and_what_does_not(
    tmp_path: Path, make_redis: Callable[[], ServerOfItsOwn]
) -> None:
    (node,) = start_cluster(tmp_path, 1)
    settings = RedisSettings(url=node.url, cluster=True)
    try:
        client = connect(settings)
        holds = Holds(client)
        assert holds.read(["default"])
        node.kill()
        for ask in (
            lambda: holds.read(["default"]),
            lambda: client.get("x"),
            partial(connect, settings),
        ):
            with pytest.raises(UNREACHABLE):
                ask()
        node.start()
        wait_until(lambda: _answers(client), 20, "it is there again")
        client.config_set("requirepass", "secret")
        with pytest.raises(RefusedError, match=r"redis\.url"):
            connect(settings)
        client.close()
    finally:
        stop_cluster([node])
    with pytest.raises(RefusedError, match=r"redis\.cluster"):
        connect(RedisSettings(url=make_redis().url, cluster=True))


def _answers(client: Client) -> bool:
    try:
        client.get("x")
    except UNREACHABLE:
        return False
    return True
