"""Whatever is killed, and whenever: nobody is mailed twice, nobody is lost, the counts add up."""

import signal
from collections.abc import Callable

import pytest

from streamer.ledger import campaigns, keys
from streamer.model.campaign import Definition
from streamer.sandbox import Faults, SandboxProcess
from streamer.stack import Kafka, Redis
from tests.kit.world import MESSAGE, World, wait_until

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
