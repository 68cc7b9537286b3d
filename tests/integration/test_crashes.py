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
from streamer.stack import KafkaServer, RedisServer
from tests.kit.harness import MESSAGE, SESSION_TIMEOUT_MS, Harness, wait_until

RECIPIENTS = 600


def _limit(harness: Harness, calls_per_s: int) -> None:
    """Make the account so slow that something is left to do when the fault comes."""
    harness.sandbox.set_limit(calls_per_s)
    harness.settings["STREAMER_ACCOUNTS__DEFAULT__REQUESTS_PER_SECOND"] = str(calls_per_s)


@pytest.mark.parametrize("nth", [1, pytest.param(3, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "checkpoint",
    ["before_pin", "after_pin", "after_post", "before_transaction", "inside_transaction"],
)
def test_a_worker_killed_at_each_checkpoint(harness: Harness, checkpoint: str, nth: int) -> None:
    harness.produce(harness.event(number) for number in range(RECIPIENTS))
    # Slow enough that there is something left to do at each point.
    harness.settings["STREAMER_ACCOUNTS__DEFAULT__REQUESTS_PER_SECOND"] = "10"
    doomed = harness.start_worker(0, crash_at=checkpoint, nth=nth, STREAMER_BATCH__SIZE="50")
    assert doomed.wait() == -signal.SIGKILL
    with harness.worker(0):
        harness.await_resolutions(RECIPIENTS)
    harness.assert_exactly_once()
    assert harness.status_counts() == {("sent", None): RECIPIENTS}


def test_a_worker_killed_during_a_call(harness: Harness) -> None:
    harness.produce(harness.event(number) for number in range(RECIPIENTS))
    harness.sandbox.set_faults(Faults(hang_s=2))
    doomed = harness.start_worker(0)
    wait_until(lambda: harness.sandbox.stats().accepted >= 300, 30, "batches are accepted")
    doomed.kill()
    with harness.worker(0):
        harness.await_resolutions(RECIPIENTS)
    harness.assert_exactly_once()
    assert harness.status_counts() == {("sent", None): RECIPIENTS}


def test_a_mail_sent_before_a_crash_stays_sent_if_suppressed_since(
    harness: Harness,
) -> None:
    harness.produce(harness.event(number) for number in range(50))
    doomed = harness.start_worker(0, crash_at="after_post")
    assert doomed.wait() == -signal.SIGKILL
    harness.suppress(*(f"user{number}@example.com" for number in range(50)), checked=False)
    with harness.worker(0):
        harness.await_resolutions(50)
    harness.assert_exactly_once()
    assert harness.status_counts() == {("sent", None): 50}


def test_a_zombie_worker_is_fenced(harness: Harness) -> None:
    harness.produce(harness.event(number) for number in range(RECIPIENTS))
    harness.sandbox.set_faults(Faults(latency_ms=300))
    zombie = harness.start_worker(0, STREAMER_BATCH__SIZE="50")
    wait_until(lambda: harness.sandbox.stats().accepted >= 100, 30, "it sends")
    zombie.signal(signal.SIGSTOP)
    with harness.worker(1):
        harness.await_resolutions(RECIPIENTS)
        zombie.signal(signal.SIGCONT)
        harness.produce(harness.event(number) for number in range(RECIPIENTS, RECIPIENTS + 200))
        harness.await_resolutions(RECIPIENTS + 200)
    assert zombie.stop() in (0, 1), zombie.words()
    harness.assert_exactly_once()


def test_rebalances_under_load(harness: Harness) -> None:
    harness.produce(harness.event(number) for number in range(3000))
    harness.sandbox.set_faults(Faults(latency_ms=100))
    # So slow that there is work for both, however long the second takes to join.
    harness.sandbox.set_limit(2)
    harness.settings["STREAMER_ACCOUNTS__DEFAULT__REQUESTS_PER_SECOND"] = "20"
    with harness.worker(0):
        wait_until(lambda: harness.sandbox.stats().accepted >= 300, 30, "the first sends")
        with harness.worker(1) as second:
            wait_until(lambda: "partitions assigned" in second.words(), 30, "the second joins")
            harness.sandbox.set_limit(20)
            before = harness.sandbox.stats().accepted
            wait_until(lambda: harness.sandbox.stats().accepted >= before + 300, 30, "both send")
        harness.await_resolutions(3000)
    harness.assert_exactly_once()
    assert harness.status_counts() == {("sent", None): 3000}


def test_workers_survive_a_redis_restart(
    sandbox: SandboxProcess,
    make_redis: Callable[[], RedisServer],
    make_harness: Callable[..., Harness],
) -> None:
    redis = make_redis()
    harness = make_harness(redis=redis)
    _limit(harness, 20)
    harness.produce(harness.event(number) for number in range(3000))
    with harness.worker(0):
        wait_until(lambda: sandbox.stats().accepted >= 300, 30, "it sends")
        redis.kill()
        redis.start()
        harness.await_resolutions(3000)
    harness.assert_exactly_once()


def test_workers_wait_while_redis_is_full(
    sandbox: SandboxProcess,
    make_redis: Callable[[], RedisServer],
    make_harness: Callable[..., Harness],
) -> None:
    redis = make_redis()
    harness = make_harness(redis=redis)
    # So slow that records are left to send when Redis is full.
    harness.settings["STREAMER_ACCOUNTS__DEFAULT__REQUESTS_PER_SECOND"] = "4"
    harness.produce(harness.event(number) for number in range(1500))
    with harness.worker(0) as worker:
        wait_until(lambda: sandbox.stats().accepted >= 300, 30, "it sends")
        harness.redis.config_set("maxmemory", 1)
        wait_until(lambda: "Redis is unavailable" in worker.words(), 30, "it waits")
        harness.redis.config_set("maxmemory", 0)
        harness.await_resolutions(1500)
    harness.assert_exactly_once()


def test_rebalances_succeed_while_redis_hangs(
    make_redis: Callable[[], RedisServer], make_harness: Callable[..., Harness]
) -> None:
    """The loop goes on: its watchdog, and the group, would take it for dead otherwise."""
    redis = make_redis()
    harness = make_harness(redis=redis)
    harness.produce(harness.event(number) for number in range(100))
    worker = harness.start_worker(0, TESTS_STANDSTILL_S="4")
    harness.await_resolutions(100)
    assert redis.pid is not None
    os.kill(redis.pid, signal.SIGSTOP)
    try:
        until = time.monotonic() + 12
        with closing(_member(harness)) as member:
            wait_until(lambda: member.poll(0.1) or member.assignment(), 20, "another joins")
        wait_until(lambda: worker.words().count("partitions assigned") > 1, 20, "all come back")
        time.sleep(max(0.0, until - time.monotonic()))
        assert worker.alive, worker.words()
    finally:
        os.kill(redis.pid, signal.SIGCONT)
    harness.produce(harness.event(number) for number in range(100, 300))
    harness.await_resolutions(300)
    assert worker.stop() == 0, worker.words()
    harness.assert_exactly_once()


def _member(harness: Harness) -> Consumer:
    """Another member of the workers' group."""
    member = Consumer(
        {
            "bootstrap.servers": harness.bootstrap_servers,
            "group.id": harness.name,
            "partition.assignment.strategy": "cooperative-sticky",
            "session.timeout.ms": SESSION_TIMEOUT_MS,
            "heartbeat.interval.ms": 500,
            "enable.auto.commit": False,
            "log_level": 0,
        }
    )
    member.subscribe([harness.topics.recipients])
    return member


def test_lost_offsets_stop_the_workers(harness: Harness) -> None:
    """As after a rest that is longer than it keeps the offsets of a group without members."""
    harness.produce(harness.event(number) for number in range(100))
    with harness.worker(0):
        harness.await_resolutions(100)
    committed = harness.committed()
    group, admin = harness.name, AdminClient({"bootstrap.servers": harness.bootstrap_servers})
    admin.delete_consumer_groups([group])[group].result()
    assert harness.committed() == {}
    worker = harness.start_worker(0)
    assert worker.wait() == 1
    for (topic, partition), offset in committed.items():
        assert f"{partition} at {offset}" in worker.words()
        assert f"--topic {topic}:" in worker.words()
    assert harness.committed() == {}
    # What the message says to do.
    known = [TopicPartition(*place, offset) for place, offset in committed.items()]
    request = ConsumerGroupTopicPartitions(group, known)
    admin.alter_consumer_group_offsets([request])[group].result()
    harness.produce(harness.event(number) for number in range(100, 150))
    with harness.worker(0):
        harness.await_resolutions(150)
    harness.assert_exactly_once()
    assert harness.status_counts() == {("sent", None): 150}


def test_a_lost_ledger_is_detected_without_offsets(
    make_redis: Callable[[], RedisServer], make_harness: Callable[..., Harness]
) -> None:
    harness = make_harness(redis=make_redis())
    harness.produce(harness.event(number) for number in range(10))
    with harness.worker(0):
        harness.await_resolutions(10)
    admin = AdminClient({"bootstrap.servers": harness.bootstrap_servers})
    admin.delete_consumer_groups([harness.name])[harness.name].result()
    harness.redis.delete(keys.EPOCH)
    worker = harness.start_worker(0)
    assert worker.wait() == 1
    assert "lost or replaced" in worker.words()
    assert harness.redis.get(keys.EPOCH) is None


@pytest.mark.timeout(300)
def test_workers_survive_a_kafka_restart(
    sandbox: SandboxProcess,
    make_kafka: Callable[[], KafkaServer],
    make_harness: Callable[..., Harness],
) -> None:
    kafka = make_kafka()
    harness = make_harness(kafka=kafka)
    _limit(harness, 20)
    harness.produce(harness.event(number) for number in range(2000))
    supervisor = harness.start_worker(command=("-m", "streamer", "run", "--workers", "2"))
    wait_until(lambda: sandbox.stats().accepted >= 300, 60, "it sends")
    kafka.kill()
    kafka.start()
    # By a broker's crash a worker may be fenced, or stand still in the Kafka client until
    # its watchdog ends it: the supervisor starts another.
    harness.await_resolutions(2000, 180)
    assert supervisor.stop() in (0, 1), supervisor.words()
    harness.assert_exactly_once()


@pytest.mark.parametrize("running", [True, False], ids=["under a worker", "between two starts"])
def test_nothing_is_sent_after_the_ledger_is_lost(
    sandbox: SandboxProcess,
    make_redis: Callable[[], RedisServer],
    make_harness: Callable[..., Harness],
    running: bool,
) -> None:
    redis = make_redis()
    harness = make_harness(redis=redis)
    _limit(harness, 10)
    harness.produce(harness.event(number) for number in range(5000))
    worker = harness.start_worker(0)
    wait_until(lambda: len(harness.committed()) == 4, 30, "offsets are committed")
    if not running:
        assert worker.stop() == 0
    harness.redis.flushall()
    # What was on its way when the keys went is past calling back.
    wait_until(lambda: sandbox.stats().in_flight == 0, 10, "no call is under way")
    accepted = sandbox.stats().accepted
    if not running:
        worker = harness.start_worker(0)
    assert worker.wait() == 1
    assert "lost or replaced" in worker.words()
    assert harness.start_worker(0).wait() == 1
    assert sandbox.stats().accepted <= accepted + (100 if running else 0)
    assert harness.redis.get(keys.EPOCH) is None


def test_a_ledger_lost_before_the_first_commit_is_detected(
    sandbox: SandboxProcess,
    make_redis: Callable[[], RedisServer],
    make_harness: Callable[..., Harness],
) -> None:
    harness = make_harness(redis=make_redis())
    harness.produce(harness.event(number) for number in range(50))
    assert harness.start_worker(0, crash_at="after_post").wait() == -signal.SIGKILL
    assert harness.status_counts() == {}
    harness.redis.flushall()
    worker = harness.start_worker(0)
    assert worker.wait() == 1
    assert "lost or replaced" in worker.words()
    assert sandbox.stats().accepted == 50


def test_no_record_is_resolved_after_the_ledger_is_lost(
    sandbox: SandboxProcess,
    make_redis: Callable[[], RedisServer],
    make_harness: Callable[..., Harness],
) -> None:
    """Without its definition a campaign would be unknown, and its records dead letters."""
    harness = make_harness(redis=make_redis())
    _limit(harness, 10)
    definition = {"organization_id": harness.organization, "campaign_id": "spring", **MESSAGE}
    campaigns.create(harness.redis, Definition.model_validate(definition))
    harness.produce(harness.event(number, message=None) for number in range(5000))
    worker = harness.start_worker(0)
    wait_until(lambda: sum(harness.committed().values()) > 0, 30, "outcomes are committed")
    harness.redis.flushall()
    assert worker.wait() == 1
    assert set(harness.status_counts()) == {("sent", None)}
