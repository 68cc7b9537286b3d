"""The main job on a Redis Cluster: each script and each pipeline touches one slot, or is split."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import orjson
import pytest
from redis import Redis, RedisCluster
from redis.crc import key_slot
from typer.testing import CliRunner

from streamer.cli import app
from streamer.ledger import campaigns, claim_reader, keys
from streamer.ledger.connection import UNREACHABLE, Client, RedisRefusedError, connect
from streamer.ledger.holds import Holds
from streamer.model.campaign import CampaignName
from streamer.progress.store import Store
from streamer.sandbox import Faults, SandboxProcess
from streamer.settings import RedisSettings as RedisSettings
from streamer.stack import RedisServer as ServerOfItsOwn
from tests.kit.harness import Harness, WorkerProcess, wait_until
from tests.kit.operator import Answer, CommandRunner
from tests.kit.redis_cluster import (
    ClusterNode,
    is_joined,
    meet,
    move_slot,
    start_cluster,
    stop_cluster,
)

pytestmark = pytest.mark.slow

_RECORDS = 3_000

MakeHarness = Callable[..., Harness]


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[list[ClusterNode]]:
    started = start_cluster(tmp_path)
    yield started
    stop_cluster(started)


def test_campaigns_go_through_a_cluster(
    nodes: list[ClusterNode], make_harness: MakeHarness, sandbox: SandboxProcess
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
    operator.run("suppress", "add", first, "user7@example.com", "--new")
    campaigns.pause(harness.redis, first, "spring")
    sandbox.set_faults(Faults(quota="daily"))
    harness.produce(events)
    with harness.worker(0), harness.worker(1):
        wait_until(lambda: len(harness.parked()) == 360, 30, "all wait for the account")
        sandbox.reset_faults()
        harness.await_resolutions(300)
        # A campaign without a definition is known once one of its records is counted.
        counted = Store(harness.redis, harness.name).campaigns
        wait_until(lambda: CampaignName(first, "spring") in counted(), 30, "it is counted")
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
    nodes: list[ClusterNode], make_harness: MakeHarness, sandbox: SandboxProcess
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
    assert "streamer ledger rebuild" in worker.words()
    operator = CommandRunner.of_harness(harness)
    found = operator.answer("ledger", "status", code=1)
    lost = [each for each in _slots(found) if not each["has_epoch"]]
    assert keys.organization_epoch(organization) in {each["slot"] for each in lost}
    wait_until(lambda: _rebuilt(operator), 20, "the killed worker is no member any more")
    assert operator.answer("ledger", "status")["lacks_writes_since"] is None
    with harness.worker():
        harness.await_resolutions(100)
    assert sandbox.stats().accepted == 50
    assert harness.status_counts() == {("sent", None): 50, ("skipped", "duplicate"): 50}


def _slots(found: Answer) -> list[Answer]:
    slots = found["slots"]
    assert isinstance(slots, list)
    return slots


def _rebuilt(operator: CommandRunner) -> bool:
    result = CliRunner().invoke(app, ["ledger", "rebuild", "--yes"], env=operator.environment)
    assert result.exit_code == 0 or "has members" in result.output, result.output
    return result.exit_code == 0


def _owner(nodes: list[ClusterNode], key: str) -> ClusterNode:
    """The primary that has the key's slot, as the cluster sees it."""
    slots = nodes[0].ask("CLUSTER SLOTS")
    assert isinstance(slots, list)
    slot = key_slot(key.encode())
    port = next(int(primary[1]) for first, last, primary, *_ in slots if first <= slot <= last)
    return next(node for node in nodes if node.port == port)


def _loaded(make_harness: MakeHarness, nodes: list[ClusterNode], replicas: int) -> Harness:
    harness = make_harness(redis=nodes[0], cluster=True)
    harness.settings |= {
        "STREAMER_REDIS__REPLICAS": str(replicas),
        "STREAMER_BATCH__SIZE": "20",
        "STREAMER_ACCOUNTS__DEFAULT__REQUESTS_PER_SECOND": "15",
    }
    harness.sandbox.set_faults(Faults(latency_ms=300))  # so that some calls are under way
    harness.produce(harness.event(number) for number in range(_RECORDS))
    return harness


def _check(harness: Harness, workers: list[WorkerProcess]) -> None:
    harness.await_resolutions(_RECORDS, 120)
    harness.produce(harness.event(number) for number in range(_RECORDS))
    harness.await_resolutions(2 * _RECORDS, 60)
    assert all(worker.alive for worker in workers)
    assert harness.status_counts() == {
        ("sent", None): _RECORDS,
        ("skipped", "duplicate"): _RECORDS,
    }
    harness.assert_exactly_once()


def test_a_replica_that_was_cut_off_takes_a_shard_over(
    tmp_path: Path, make_harness: MakeHarness, sandbox: SandboxProcess
) -> None:
    nodes = start_cluster(tmp_path, 3, replicas=1)
    try:
        harness = _loaded(make_harness, nodes, replicas=1)
        with harness.worker(0) as one, harness.worker(1) as other:
            wait_until(lambda: sandbox.stats().accepted > 500, 60, "mails are sent")
            dead = _owner(nodes, keys.suppressed(harness.organization))
            replica = nodes[3 + nodes.index(dead)]
            dead.cut_off_replicas()
            before = sandbox.stats().accepted
            # The second is what would happen without the replicas.
            wait_until(
                lambda: (
                    "UnconfirmedError" in one.words() or sandbox.stats().accepted > before + 300
                ),
                30,
                "the workers notice",
            )
            dead.kill()
            replica.ask("CLUSTER FAILOVER", "TAKEOVER")
            dead.start()  # and is a replica now, without which nothing could be confirmed
            _check(harness, [one, other])
            assert replica.is_primary()
            assert not dead.is_primary()
    finally:
        stop_cluster(nodes)


@pytest.mark.parametrize("replicas", [0, 1])
def test_slots_move_to_a_node_that_is_added_under_load(
    replicas: int, tmp_path: Path, make_harness: MakeHarness, sandbox: SandboxProcess
) -> None:
    nodes = start_cluster(tmp_path / "cluster", 3, replicas)
    added = [ClusterNode(tmp_path / f"added-{number}") for number in range(1 + replicas)]
    try:
        harness = _loaded(make_harness, nodes, replicas)
        with harness.worker(0) as one, harness.worker(1) as other:
            wait_until(lambda: sandbox.stats().accepted > 500, 60, "mails are sent")
            for node in added:
                node.start()
                meet(nodes[0], node)
            everyone = [*nodes, *added]
            wait_until(
                lambda: all(node.knows(len(everyone)) for node in everyone), 30, "all have met"
            )
            # A node that has just met the others still takes the cluster for down.
            wait_until(lambda: all(map(is_joined, everyone)), 30, "all are joined")
            if replicas:
                added[1].ask("CLUSTER REPLICATE", added[0].id())
                wait_until(added[0].has_replica, 30, "it replicates")
            for key in (
                keys.suppressed(harness.organization),
                keys.account_holds("default"),
                keys.EPOCH,
            ):
                source = _owner(nodes[:3], key)
                # With half of its keys moved, the slot cannot be used.
                move_slot(
                    key_slot(key.encode()),
                    source,
                    added[0],
                    nodes[:3],
                    lambda: wait_until(lambda: _waits(one, other), 30, "the workers wait"),
                )
            _check(harness, [one, other])
            assert added[0].ask("DBSIZE") != 0
    finally:
        stop_cluster([*nodes, *added])


def _waits(*workers: WorkerProcess) -> bool:
    return any("waiting for Redis" in worker.words() for worker in workers)


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
