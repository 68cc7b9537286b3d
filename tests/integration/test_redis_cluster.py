"""The main job on a Redis Cluster: each script and each pipeline touches one slot, or is split."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import orjson
import pytest
from redis import Redis, RedisCluster

from streamer.ledger import claim_reader, keys
from streamer.ledger.connection import UNREACHABLE, Client, RedisRefusedError, connect
from streamer.ledger.holds import Holds
from streamer.sandbox import Faults, SandboxProcess
from streamer.settings import RedisSettings as RedisSettings
from streamer.stack import RedisServer as ServerOfItsOwn
from tests.kit.harness import Harness, wait_until
from tests.kit.operator import Answer, CommandRunner
from tests.kit.redis_cluster import ClusterNode, start_cluster, stop_cluster


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[list[ClusterNode]]:
    started = start_cluster(tmp_path)
    yield started
    stop_cluster(started)


def test_campaigns_go_through_a_cluster(
    nodes: list[ClusterNode], make_harness: Callable[..., Harness], sandbox: SandboxProcess
) -> None:
    harness = make_harness(redis=nodes[0], cluster=True)
    harness.settings |= {
        "STREAMER_PROGRESS__EMBEDDED": "true",
        "STREAMER_DELIVERY__HOLD_PROBE_S": "1",
    }
    operator = CommandRunner.of_harness(harness)

    # Of several organizations, whose keys lie on several nodes.
    harness.organizations = {f"{harness.organization}-{letter}" for letter in "abcdef"}
    events = [
        harness.event(number, organization_id=organization)
        for number in range(60)
        for organization in sorted(harness.organizations)
    ]
    first = min(harness.organizations)
    operator.run("suppress", "add", first, "user7@example.com")
    operator.run("campaign", "pause", f"{first}/spring")
    sandbox.set_faults(Faults(quota="daily"))
    harness.produce(events)
    with harness.worker(0), harness.worker(1):
        wait_until(lambda: len(harness.parked()) == 360, 30, "all wait for the account")
        sandbox.reset_faults()
        harness.await_resolutions(300)
        operator.run("campaign", "resume", f"{first}/spring")
        harness.await_resolutions(360)
        harness.produce(events)
        harness.await_resolutions(720)

        def progress() -> Answer:
            report = operator.answer("progress", f"{first}/spring")
            return {name: report[name] for name in ("received", "sent", "skipped")}

        wanted = {"received": 120, "sent": 59, "skipped": 61}
        wait_until(lambda: progress() == wanted, 30, "all are counted")
        trace = ("trace", f"{first}/spring", "--email", "user8@example.com", "--json")
        found = orjson.loads(operator.run(*trace).stdout)
        assert found["ledger"][0]["claim"]["batch"]["result"]["status"] == "sent"
        operator.run("campaign", "drop", f"{first}/spring", "--yes")
        assert claim_reader.find(harness.redis, first, "spring", "user8@example.com") is None
    assert harness.status_counts() == {
        ("sent", None): 359,
        ("skipped", "suppressed"): 2,
        ("skipped", "duplicate"): 359,
    }
    harness.assert_exactly_once(suppressed_too=False)


def test_data_loss_on_one_node_stops_the_workers(
    nodes: list[ClusterNode], make_harness: Callable[..., Harness], sandbox: SandboxProcess
) -> None:
    harness = make_harness(redis=nodes[0], cluster=True)
    assert isinstance(harness.redis, RedisCluster)

    def port(key: str) -> int:
        assert isinstance(harness.redis, RedisCluster)
        node = harness.redis.get_node_from_key(key)  # type: ignore[no-untyped-call]  # redis-py has none
        assert node is not None
        return int(node.port)

    organization = next(
        name
        for name in (f"{harness.organization}-{number}" for number in range(1_000))
        if port(keys.suppressed(name)) != port(keys.EPOCH)
    )
    events = [harness.event(number, organization_id=organization) for number in range(50)]
    harness.produce(events)
    with harness.worker():
        harness.await_resolutions(50)
    with Redis(port=port(keys.suppressed(organization))) as node:
        node.flushall()
    harness.produce(events)
    worker = harness.start_worker()
    assert worker.wait() == 1
    assert keys.organization_epoch(organization) in worker.words()
    assert sandbox.stats().accepted == 50
    # As the log says, for who accepts that all of them are mailed again.
    assert f"DEL {keys.EPOCH_SLOTS}" in worker.words()
    harness.redis.delete(keys.EPOCH_SLOTS)
    with harness.worker():
        harness.await_resolutions(100)
    assert sandbox.stats().accepted == 100


def test_transient_and_permanent_cluster_errors_are_told_apart(
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
        with pytest.raises(RedisRefusedError, match=r"redis\.url"):
            connect(settings)
        client.close()
    finally:
        stop_cluster([node])
    with pytest.raises(RedisRefusedError, match=r"redis\.cluster"):
        connect(RedisSettings(url=make_redis().url, cluster=True))


def _answers(client: Client) -> bool:
    try:
        client.get("x")
    except UNREACHABLE:
        return False
    return True
