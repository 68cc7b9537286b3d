"""Whatever is killed, and whenever: nobody is mailed twice, nobody is lost, the counts add up."""

import os
import signal
import time
from collections.abc import Callable
from contextlib import closing

import pytest
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient

from streamer.ledger import campaigns, keys
from streamer.model.campaign import Definition
from streamer.sandbox import Faults, SandboxProcess
from streamer.stack import Kafka, Redis
from tests.kit.world import MESSAGE, SESSION_TIMEOUT_MS, World, wait_until

RECIPIENTS = 600


@pytest.mark.parametrize("nth", [1, 3])
@pytest.mark.parametrize(
    "checkpoint",
    ["before_pin", "after_pin", "after_post", "before_transaction", "inside_transaction"],
)
def test_a_worker_is_killed_at(world: World, checkpoint: str, nth: int) -> None:
    world.produce(world.event(number) for number in range(RECIPIENTS))
    # Slow enough that there is something left to do at each point.
    world.settings["STREAMER_ACCOUNTS__DEFAULT__REQUESTS_PER_SECOND"] = "10"
    doomed = world.start_worker(0, crash_at=checkpoint, nth=nth, STREAMER_BATCH__SIZE="50")
    assert doomed.wait() == -signal.SIGKILL
    with world.worker(0):
        world.await_endings(RECIPIENTS)
    world.judge()
    assert world.words() == {("sent", None): RECIPIENTS}


def test_a_worker_is_killed_during_a_post(world: World) -> None:
    world.produce(world.event(number) for number in range(RECIPIENTS))
    world.sandbox.order(Faults(hang_s=2))
    doomed = world.start_worker(0)
    wait_until(lambda: world.sandbox.stats().accepted >= 300, 30, "batches are accepted")
    doomed.kill()
    with world.worker(0):
        world.await_endings(RECIPIENTS)
    world.judge()
    assert world.words() == {("sent", None): RECIPIENTS}


def test_a_record_that_was_mailed_before_a_crash_is_sent_though_suppressed_since(
    world: World,
) -> None:
    world.produce(world.event(number) for number in range(50))
    doomed = world.start_worker(0, crash_at="after_post")
    assert doomed.wait() == -signal.SIGKILL
    world.suppress(*(f"user{number}@example.com" for number in range(50)), judged=False)
    with world.worker(0):
        world.await_endings(50)
    world.judge()
    assert world.words() == {("sent", None): 50}


def test_a_zombie_wakes_after_losing_its_partitions(world: World) -> None:
    world.produce(world.event(number) for number in range(RECIPIENTS))
    world.sandbox.order(Faults(latency_ms=300))
    zombie = world.start_worker(0, STREAMER_BATCH__SIZE="50")
    wait_until(lambda: world.sandbox.stats().accepted >= 100, 30, "it sends")
    zombie.signal(signal.SIGSTOP)
    with world.worker(1):
        world.await_endings(RECIPIENTS)
        zombie.signal(signal.SIGCONT)
        world.produce(world.event(number) for number in range(RECIPIENTS, RECIPIENTS + 200))
        world.await_endings(RECIPIENTS + 200)
    assert zombie.stop() in (0, 1), zombie.words()
    world.judge()


def test_rebalances_under_load(world: World) -> None:
    world.produce(world.event(number) for number in range(3000))
    world.sandbox.order(Faults(latency_ms=100))
    # So slow that there is work for both, however long the second takes to join.
    world.sandbox.set_limit(2)
    world.settings["STREAMER_ACCOUNTS__DEFAULT__REQUESTS_PER_SECOND"] = "20"
    with world.worker(0):
        wait_until(lambda: world.sandbox.stats().accepted >= 300, 30, "the first sends")
        with world.worker(1) as second:
            wait_until(lambda: "partitions assigned" in second.words(), 30, "the second joins")
            world.sandbox.set_limit(20)
            before = world.sandbox.stats().accepted
            wait_until(lambda: world.sandbox.stats().accepted >= before + 300, 30, "both send")
        world.await_endings(3000)
    world.judge()
    assert world.words() == {("sent", None): 3000}


def test_redis_is_killed_and_comes_back(
    sandbox: SandboxProcess, make_redis: Callable[[], Redis], make_world: Callable[..., World]
) -> None:
    redis = make_redis()
    world = make_world(redis=redis)
    sandbox.set_limit(20)
    world.settings["STREAMER_ACCOUNTS__DEFAULT__REQUESTS_PER_SECOND"] = "20"
    world.produce(world.event(number) for number in range(3000))
    with world.worker(0):
        wait_until(lambda: sandbox.stats().accepted >= 300, 30, "it sends")
        redis.kill()
        redis.start()
        world.await_endings(3000)
    world.judge()


def test_redis_is_full_for_a_while(
    sandbox: SandboxProcess, make_redis: Callable[[], Redis], make_world: Callable[..., World]
) -> None:
    redis = make_redis()
    world = make_world(redis=redis)
    # So slow that records are left to send when Redis is full.
    world.settings["STREAMER_ACCOUNTS__DEFAULT__REQUESTS_PER_SECOND"] = "4"
    world.produce(world.event(number) for number in range(1500))
    with world.worker(0) as worker:
        wait_until(lambda: sandbox.stats().accepted >= 300, 30, "it sends")
        world.redis.config_set("maxmemory", 1)
        wait_until(lambda: "Redis cannot be used" in worker.words(), 30, "it waits")
        world.redis.config_set("maxmemory", 0)
        world.await_endings(1500)
    world.judge()


def test_redis_stands_still_while_partitions_come_and_go(
    make_redis: Callable[[], Redis], make_world: Callable[..., World]
) -> None:
    """The loop goes on: its watchdog, and the group, would take it for dead otherwise."""
    redis = make_redis()
    world = make_world(redis=redis)
    world.produce(world.event(number) for number in range(100))
    worker = world.start_worker(0, STREAMER_TEST_STANDSTILL_S="4")
    world.await_endings(100)
    assert redis.pid is not None
    os.kill(redis.pid, signal.SIGSTOP)
    try:
        until = time.monotonic() + 12
        with closing(_member(world)) as member:
            wait_until(lambda: member.poll(0.1) or member.assignment(), 20, "another joins")
        wait_until(lambda: worker.words().count("partitions assigned") > 1, 20, "all come back")
        time.sleep(max(0.0, until - time.monotonic()))
        assert worker.alive, worker.words()
    finally:
        os.kill(redis.pid, signal.SIGCONT)
    world.produce(world.event(number) for number in range(100, 300))
    world.await_endings(300)
    assert worker.stop() == 0, worker.words()
    world.judge()


def _member(world: World) -> Consumer:
    """Another member of the workers' group."""
    member = Consumer(
        {
            "bootstrap.servers": world.bootstrap_servers,
            "group.id": world.name,
            "partition.assignment.strategy": "cooperative-sticky",
            "session.timeout.ms": SESSION_TIMEOUT_MS,
            "heartbeat.interval.ms": 500,
            "enable.auto.commit": False,
            "log_level": 0,
        }
    )
    member.subscribe([world.topics.recipients])
    return member


def test_offsets_that_kafka_forgot_are_missed(world: World) -> None:
    """As after a rest that is longer than it keeps the offsets of a group without members."""
    world.produce(world.event(number) for number in range(100))
    with world.worker(0):
        world.await_endings(100)
    committed = world.committed()
    group, admin = world.name, AdminClient({"bootstrap.servers": world.bootstrap_servers})
    admin.delete_consumer_groups([group])[group].result()
    assert world.committed() == {}
    worker = world.start_worker(0)
    assert worker.wait() == 1
    for (topic, partition), offset in committed.items():
        assert f"{partition} at {offset}" in worker.words()
        assert f"--topic {topic}:" in worker.words()
    assert world.committed() == {}
    # What the message says to do.
    known = [TopicPartition(*place, offset) for place, offset in committed.items()]
    request = ConsumerGroupTopicPartitions(group, known)
    admin.alter_consumer_group_offsets([request])[group].result()
    world.produce(world.event(number) for number in range(100, 150))
    with world.worker(0):
        world.await_endings(150)
    world.judge()
    assert world.words() == {("sent", None): 150}


def test_a_ledger_that_was_lost_is_missed_where_kafka_forgot_it(
    make_redis: Callable[[], Redis], make_world: Callable[..., World]
) -> None:
    world = make_world(redis=make_redis())
    world.produce(world.event(number) for number in range(10))
    with world.worker(0):
        world.await_endings(10)
    admin = AdminClient({"bootstrap.servers": world.bootstrap_servers})
    admin.delete_consumer_groups([world.name])[world.name].result()
    world.redis.delete(keys.EPOCH)
    worker = world.start_worker(0)
    assert worker.wait() == 1
    assert "lost or replaced" in worker.words()
    assert world.redis.get(keys.EPOCH) is None


@pytest.mark.timeout(300)
def test_kafka_is_killed_and_comes_back(
    sandbox: SandboxProcess, make_kafka: Callable[[], Kafka], make_world: Callable[..., World]
) -> None:
    kafka = make_kafka()
    world = make_world(kafka=kafka)
    sandbox.set_limit(20)
    world.settings["STREAMER_ACCOUNTS__DEFAULT__REQUESTS_PER_SECOND"] = "20"
    world.produce(world.event(number) for number in range(2000))
    supervisor = world.start_worker(command=("-m", "streamer", "run", "--workers", "2"))
    wait_until(lambda: sandbox.stats().accepted >= 300, 60, "it sends")
    kafka.kill()
    kafka.start()
    # By a broker's crash a worker may be fenced, or stand still in the Kafka client until
    # its watchdog ends it: the supervisor starts another.
    world.await_endings(2000, 180)
    assert supervisor.stop() in (0, 1), supervisor.words()
    world.judge()


@pytest.mark.parametrize("running", [True, False], ids=["under a worker", "between two starts"])
def test_after_losing_the_ledger_nothing_is_sent(
    sandbox: SandboxProcess,
    make_redis: Callable[[], Redis],
    make_world: Callable[..., World],
    running: bool,
) -> None:
    redis = make_redis()
    world = make_world(redis=redis)
    sandbox.set_limit(10)
    world.settings["STREAMER_ACCOUNTS__DEFAULT__REQUESTS_PER_SECOND"] = "10"
    world.produce(world.event(number) for number in range(5000))
    worker = world.start_worker(0)
    wait_until(lambda: len(world.committed()) == 4, 30, "offsets are committed")
    if not running:
        assert worker.stop() == 0
    world.redis.flushall()
    # What was on its way when the keys went is past calling back.
    wait_until(lambda: sandbox.stats().in_flight == 0, 10, "no call is under way")
    accepted = sandbox.stats().accepted
    if not running:
        worker = world.start_worker(0)
    assert worker.wait() == 1
    assert "lost or replaced" in worker.words()
    assert world.start_worker(0).wait() == 1
    assert sandbox.stats().accepted <= accepted + (100 if running else 0)
    assert world.redis.get(keys.EPOCH) is None


def test_a_ledger_that_is_lost_before_the_first_commit_is_missed(
    sandbox: SandboxProcess, make_redis: Callable[[], Redis], make_world: Callable[..., World]
) -> None:
    world = make_world(redis=make_redis())
    world.produce(world.event(number) for number in range(50))
    assert world.start_worker(0, crash_at="after_post").wait() == -signal.SIGKILL
    assert world.words() == {}
    world.redis.flushall()
    worker = world.start_worker(0)
    assert worker.wait() == 1
    assert "lost or replaced" in worker.words()
    assert sandbox.stats().accepted == 50


def test_a_ledger_that_was_lost_decides_about_nobody(
    sandbox: SandboxProcess, make_redis: Callable[[], Redis], make_world: Callable[..., World]
) -> None:
    """Without its definition a campaign would be unknown, and its records dead letters."""
    world = make_world(redis=make_redis())
    sandbox.set_limit(10)
    world.settings["STREAMER_ACCOUNTS__DEFAULT__REQUESTS_PER_SECOND"] = "10"
    definition = {"organization_id": world.organization, "campaign_id": "spring", **MESSAGE}
    campaigns.create(world.redis, Definition.model_validate(definition))
    world.produce(world.event(number, message=None) for number in range(5000))
    worker = world.start_worker(0)
    wait_until(lambda: sum(world.committed().values()) > 0, 30, "outcomes are committed")
    world.redis.flushall()
    assert worker.wait() == 1
    assert set(world.words()) == {("sent", None)}
