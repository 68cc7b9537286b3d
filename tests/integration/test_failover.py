"""Redis fails over to a replica while campaigns are sent: no pin is forgotten."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from streamer.ledger.connection import UNREACHABLE, connect
from streamer.ledger.holds import By, Holds
from streamer.sandbox import Faults, SandboxProcess
from streamer.settings import RedisSettings as RedisSettings
from tests.kit.harness import Harness, WorkerProcess, wait_until
from tests.kit.moving_address import MovingAddress
from tests.kit.operator import CommandRunner
from tests.kit.redis_replicas import ReplicaSet

pytestmark = pytest.mark.slow

_SETTINGS = {
    # Slow enough that the load outlasts what is done to it.
    "STREAMER_BATCH__SIZE": "20",
    "STREAMER_ACCOUNTS__DEFAULT__REQUESTS_PER_SECOND": "15",
}
_RECORDS = 3_000

MakeSet = Callable[..., ReplicaSet]


@pytest.fixture
def make_set(tmp_path: Path) -> Iterator[MakeSet]:
    """A primary with this many replicas, and Sentinels; all started."""
    made = []

    def make(replicas: int, sentinels: int = 3) -> ReplicaSet:
        made.append(ReplicaSet(tmp_path / "redis", replicas, sentinels))
        made[-1].start()
        return made[-1]

    yield make
    for each in made:
        each.stop()


def _harness(make_harness: Callable[..., Harness], replica_set: ReplicaSet) -> Harness:
    harness = make_harness(redis=replica_set.servers[0], through=replica_set.redis_settings())
    harness.settings |= {**_SETTINGS, **replica_set.settings()}
    harness.sandbox.set_faults(Faults(latency_ms=300))  # so that some calls are under way
    harness.produce(_events(harness))
    return harness


def _events(harness: Harness) -> Iterator[dict[str, object]]:
    return (harness.event(number) for number in range(_RECORDS))


def _check(harness: Harness, workers: list[WorkerProcess]) -> None:
    harness.await_resolutions(_RECORDS, 120)
    harness.produce(_events(harness))  # claims that were forgotten would be mailed again
    harness.await_resolutions(2 * _RECORDS, 60)
    assert all(worker.alive for worker in workers)
    assert harness.status_counts() == {
        ("sent", None): _RECORDS,
        ("skipped", "duplicate"): _RECORDS,
    }
    harness.assert_exactly_once()


def test_a_primary_that_is_killed_under_load(
    make_set: MakeSet, make_harness: Callable[..., Harness], sandbox: SandboxProcess
) -> None:
    replica_set = make_set(2)
    harness = _harness(make_harness, replica_set)
    with harness.worker(0) as one, harness.worker(1) as other:
        wait_until(lambda: sandbox.stats().accepted > 500, 60, "mails are sent")
        dead = replica_set.primary
        dead.kill()
        replica_set.await_failover(dead)
        _check(harness, [one, other])
    assert "waiting for Redis" in one.words()


def test_a_replica_that_was_cut_off_is_promoted(
    make_set: MakeSet, make_harness: Callable[..., Harness], sandbox: SandboxProcess
) -> None:
    replica_set = make_set(1)
    harness = _harness(make_harness, replica_set)
    with harness.worker(0) as one, harness.worker(1) as other:
        wait_until(lambda: sandbox.stats().accepted > 500, 60, "mails are sent")
        cut = replica_set.primary
        cut.cut_off_replicas()
        before = sandbox.stats().accepted
        # The second is what would happen without the replicas.
        wait_until(
            lambda: "UnconfirmedError" in one.words() or sandbox.stats().accepted > before + 300,
            30,
            "the workers notice",
        )
        cut.kill()
        replica_set.await_failover(cut)
        # Nothing can be confirmed, and nothing is sent, before it has a replica again.
        cut.start()
        _check(harness, [one, other])


def test_a_primary_that_is_cut_off_stays_one_for_a_while(
    make_set: MakeSet, make_harness: Callable[..., Harness], sandbox: SandboxProcess
) -> None:
    replica_set = make_set(2)
    harness = _harness(make_harness, replica_set)
    with harness.worker(0) as one, harness.worker(1) as other:
        wait_until(lambda: sandbox.stats().accepted > 500, 60, "mails are sent")
        cut = replica_set.primary
        cut.cut_off_replicas()
        cut.cut_off_sentinels()
        replica_set.await_failover(cut)
        assert cut.is_primary()  # there are two now, and both serve the workers
        during = sandbox.stats().accepted
        wait_until(lambda: sandbox.stats().accepted > during + 200, 60, "mails are sent again")
        cut.heal()
        wait_until(lambda: not cut.is_primary(), 60, "there is one primary again")
        _check(harness, [one, other])


def test_what_an_operator_does_is_done_only_when_the_replicas_have_it(
    make_set: MakeSet, make_harness: Callable[..., Harness]
) -> None:
    replica_set = make_set(1)
    harness = make_harness(redis=replica_set.servers[0], through=replica_set.redis_settings())
    harness.settings |= replica_set.settings()
    operator = CommandRunner.of_harness(harness)
    operator.define()
    campaign = operator.campaign
    operator.run("campaign", "pause", campaign)
    replica_set.primary.cut_off_replicas()
    for command in (
        ("campaign", "resume", campaign),
        ("suppress", "add", harness.organization, "ann@example.com"),
        ("account", "hold", "default"),
    ):
        words = operator.run(*command, code=1).output
        assert "0 of 1 replicas" in words
        assert "repeat the command" in words
    doctor = operator.run("doctor", code=1).output
    assert "redis.replicas is 1: nothing is sent" in doctor
    replica_set.primary.heal()
    wait_until(lambda: replica_set.primary.replicas() == 1, 30, "it is back")
    operator.run("campaign", "resume", campaign)
    client = connect(replica_set.redis_settings())
    assert Holds(client).release("default", None, By.OPERATOR)
    client.close()


def test_an_address_that_moves_to_another_primary(
    make_set: MakeSet, make_harness: Callable[..., Harness], sandbox: SandboxProcess
) -> None:
    old, new = make_set(1, sentinels=0).servers
    address = MovingAddress(old.port)
    harness = make_harness(redis=address)
    harness.settings |= {**_SETTINGS, "STREAMER_REDIS__REPLICAS": "1"}
    harness.produce(_events(harness))
    with harness.worker(0) as one, harness.worker(1) as other:
        wait_until(lambda: sandbox.stats().accepted > 500, 60, "mails are sent")
        old.ask("FAILOVER")
        wait_until(lambda: new.is_primary() and not old.is_primary(), 30, "they changed roles")
        with pytest.raises(UNREACHABLE, match="not a primary"):
            connect(RedisSettings(url=address.url)).get("x")
        address.move(new.port)
        _check(harness, [one, other])
    address.close()
