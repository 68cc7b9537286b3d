"""Random disruptions during three campaigns, followed by a check of the delivery guarantees.

Workers are killed and frozen; Redis and Kafka are killed and restarted; Redis hangs, its
connections break and its replies are lost; calls fail before and after acceptance. At the same
time accounts are held and released, campaigns paused and resumed, and batches rejected for one of
their mails, or deferred. A seed determines the order of events, but not their exact timing.
"""

import random
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from confluent_kafka import Consumer
from confluent_kafka.admin import AdminClient

from streamer.sandbox import Faults, SandboxProcess
from streamer.stack import RedisServer
from tests.chaos.counts import check_counts
from tests.chaos.disruptions import CAMPAIGNS, Disruptions
from tests.chaos.redis_servers import OneRedis, ReplicatedRedis, StormRedis
from tests.chaos.rough import RoughRedis, rough_redis
from tests.kit.harness import SESSION_TIMEOUT_MS, Harness, WorkerProcess
from tests.kit.kafka_cluster import Brokers
from tests.kit.redis_replicas import ReplicaSet

_REJECTED = "guilty.test"
_FAILING = "poison.test"
_FAULTS = Faults(
    latency_ms=30,
    jitter_ms=60,
    error_before_percent=4,
    error_after_percent=4,
    cut_before_percent=4,
    cut_after_percent=3,
    reject_addresses=frozenset({f"@{_REJECTED}"}),
    fail_addresses=frozenset({f"@{_FAILING}"}),
)
_DUPLICATES = 0.01
_SUPPRESSED = 0.02
_INVALID = 0.005
_SETTINGS = {
    "STREAMER_PROGRESS__EMBEDDED": "true",
    "STREAMER_DELIVERY__HOLD_PROBE_S": "1",
    "STREAMER_DELIVERY__SET_ASIDE_S": "2",
    "STREAMER_DELIVERY__GIVE_UP_S": "15",
}
_PATIENCE_S = 300.0
_LAST_LINES = 25
_CALLS_TO_FIND_REJECTED = 14
"""The number of calls to find one rejected mail in a batch of a hundred."""
_SHORTEST_STALL_S, _MORE_STALL_S = 4.5, 3.5
"""Clients time out after 5 s."""
_FAILOVER_S = 40.0
"""About as long as one takes, with the return of the old primary."""
_FROZEN_S = SESSION_TIMEOUT_MS / 1000 * 1.5


@dataclass(frozen=True, slots=True)
class Plan:
    """The number of each kind of event, and further parameters of a storm.

    Attributes:
        kafka_kills: kills of one of the brokers.
        stalls: periods in which Redis hangs for about as long as its clients wait, or longer.
        resets: periods in which connections to Redis break and replies are lost.
        refusals: periods in which Resend rejects the account or its sender.
        holds: holds by an operator.
        pauses: pauses of one of the campaigns.
        cancels: permanent cancellations of one of the campaigns.
        repairs: runs of `retry` and `dlq replay`, some of them killed.
        rejected: recipients whose batch is rejected.
        failing: recipients whose batch fails on every attempt.
        pause_s: the average time between two events.
        failovers: failovers of Redis, which then has replicas and Sentinels. Without the proxy that
            stands before a single Redis, there are no resets.
        brokers: the number of brokers: 1, or at least 3, with a replication factor of 3.
        group_protocol: the protocol of the workers' group: `classic` or `consumer`.
    """

    recipients: int
    workers: int = 3
    kills: int = 10
    zombies: int = 2
    redis_kills: int = 1
    kafka_kills: int = 1
    stalls: int = 1
    resets: int = 1
    refusals: int = 2
    holds: int = 1
    pauses: int = 2
    cancels: int = 1
    repairs: int = 1
    rejected: int = 4
    failing: int = 1
    seed: int = 0
    pause_s: float = 3.0
    failovers: int = 0
    brokers: int = 1
    group_protocol: str = "classic"

    def deck(self) -> list[str]:
        """Return all events, unshuffled."""
        return (
            ["kill"] * self.kills
            + ["zombie"] * self.zombies
            + ["redis"] * self.redis_kills
            + ["kafka"] * self.kafka_kills
            + ["stall"] * self.stalls
            + ["resets"] * (0 if self.failovers else self.resets)
            + ["failover"] * self.failovers
            + ["refusal"] * self.refusals
            + ["hold"] * self.holds
            + ["pause"] * self.pauses
            + ["cancel"] * self.cancels
            + ["repair"] * self.repairs
        )


@dataclass(slots=True)
class StormReport:
    """The statistics of a storm in which every guarantee was kept."""

    happened: Counter[str]
    resolutions: Counter[tuple[str, str | None]]
    accepted: int
    calls: int
    seconds: float


@dataclass(slots=True)
class _Crew:
    """A fixed number of workers, which are replaced when they die."""

    harness: Harness
    count: int
    workers: list[WorkerProcess] = field(default_factory=list)
    frozen: list[tuple[WorkerProcess, float]] = field(default_factory=list)

    def tend(self) -> None:
        """Replace dead workers, and wake those whose freeze is over."""
        for place in range(self.count):
            if place >= len(self.workers):
                self.workers.append(self.harness.start_worker(place))
            elif not self.workers[place].alive:
                self.workers[place] = self.harness.start_worker(place)
        now = time.monotonic()
        for worker, until in list(self.frozen):
            if now >= until:
                worker.signal(signal.SIGCONT)
                self.frozen.remove((worker, until))

    def stop(self) -> None:
        for worker, _ in self.frozen:
            worker.signal(signal.SIGCONT)
        for worker in self.workers:
            if worker.alive:
                worker.signal(signal.SIGTERM)
        for worker in self.workers:
            worker.wait(90)  # a worker that hangs in the Kafka client exits within 45 s


def run_storm(plan: Plan, say: Callable[[str], None]) -> StormReport:
    """Run a storm and check its results.

    Raises:
        AssertionError: a guarantee was broken.
    """
    started = time.monotonic()
    dice = random.Random(plan.seed)
    with (
        tempfile.TemporaryDirectory(prefix="streamer-chaos-") as folder,
        _servers(Path(folder), plan, dice) as servers,
        _rough(servers.redis, plan.seed) as rough,
        SandboxProcess(limit=None, faults=_FAULTS, seed=plan.seed) as sandbox,
    ):
        harness = Harness(
            servers.kafka.bootstrap_servers,
            _first(servers.redis).url,
            sandbox,
            Path(folder),
            8,
            replication=servers.kafka.replication,
            through=(
                servers.redis.redis_settings() if isinstance(servers.redis, ReplicaSet) else None
            ),
        )
        if isinstance(servers.redis, ReplicaSet):
            harness.settings |= servers.redis.settings()
        try:
            _prepare(harness, plan, dice)
            happened = _rage(harness, servers, rough, plan, dice, say)
            harness.assert_exactly_once()
            _check_rejected(harness)
            check_counts(harness)
            stats = sandbox.stats()
            return StormReport(
                happened,
                harness.status_counts(),
                stats.accepted,
                stats.calls,
                time.monotonic() - started,
            )
        finally:
            harness.close()


class _Servers(NamedTuple):
    kafka: Brokers
    redis: StormRedis


@contextmanager
def _servers(folder: Path, plan: Plan, dice: random.Random) -> Iterator[_Servers]:
    redis = folder / "redis"
    servers = _Servers(
        Brokers(folder, plan.brokers),
        ReplicatedRedis(redis, dice) if plan.failovers else OneRedis(redis),
    )
    try:
        servers.redis.start()
        servers.kafka.start()
        yield servers
    finally:
        servers.kafka.stop()
        servers.redis.stop()


@contextmanager
def _rough(redis: StormRedis, seed: int) -> Iterator[RoughRedis | None]:
    """The proxy in front of a single Redis."""
    if not isinstance(redis, OneRedis):
        yield None
        return
    with rough_redis(redis.port, seed) as rough:
        yield rough


def _first(redis: StormRedis) -> RedisServer:
    if isinstance(redis, ReplicaSet):
        return redis.servers[0]
    assert isinstance(redis, OneRedis)
    return redis


def _prepare(harness: Harness, plan: Plan, dice: random.Random) -> None:
    """Produce the campaigns."""
    for number in range(plan.recipients):
        if dice.random() < _SUPPRESSED:
            harness.suppress(f"user{number}@example.com")
    numbers = range(plan.recipients)
    marked = dice.sample(numbers, plan.rejected + plan.failing)
    domains = dict.fromkeys(marked[: plan.rejected], _REJECTED)
    domains |= dict.fromkeys(marked[plan.rejected :], _FAILING)
    events = []
    for number in numbers:
        changes: dict[str, object] = {"campaign_id": CAMPAIGNS[number % len(CAMPAIGNS)]}
        if number in domains:
            changes["email"] = f"user{number}@{domains[number]}"
        elif dice.random() < _INVALID:
            changes["email"] = "nobody"
        events.append(harness.event(number, **changes))
    again = [event for event in events if dice.random() < _DUPLICATES]
    harness.produce([*events, *again, b"not json"])
    # Throttle sending, so that all events have something to disrupt.
    calls = plan.recipients / 100 + plan.rejected * _CALLS_TO_FIND_REJECTED
    takes_s = len(plan.deck()) * plan.pause_s + plan.failovers * _FAILOVER_S
    rate = max(0.3 if plan.failovers else 2.0, 2 * calls / max(takes_s, 1.0))
    harness.settings["STREAMER_ACCOUNTS__DEFAULT__REQUESTS_PER_SECOND"] = f"{rate:.2f}"
    harness.settings |= _SETTINGS
    if plan.failovers:  # each takes longer than batches are tried otherwise
        harness.settings["STREAMER_DELIVERY__GIVE_UP_S"] = "300"
    if plan.group_protocol != "classic":  # there the session timeout is a broker setting
        harness.settings["STREAMER_KAFKA__GROUP_PROTOCOL"] = plan.group_protocol
        harness.settings["STREAMER_KAFKA__PROPERTIES"] = "{}"


def _rage(
    harness: Harness,
    servers: _Servers,
    rough: RoughRedis | None,
    plan: Plan,
    dice: random.Random,
    say: Callable[[str], None],
) -> Counter[str]:
    deck = plan.deck()
    dice.shuffle(deck)
    if rough is not None:
        harness.settings["STREAMER_REDIS__URL"] = rough.url
    crew, disruptions = _Crew(harness, plan.workers), Disruptions(harness, dice)
    happened: Counter[str] = Counter()
    for happening in deck:
        until = time.monotonic() + plan.pause_s * (0.5 + dice.random())
        while time.monotonic() < until:
            crew.tend()
            disruptions.tend()
            time.sleep(0.05)
        victim = crew.workers[dice.randrange(plan.workers)]
        if happening == "kill":
            victim.kill()
        elif happening == "zombie":
            victim.signal(signal.SIGSTOP)
            crew.frozen.append((victim, time.monotonic() + _FROZEN_S))
        elif happening == "refusal":
            disruptions.refuse()
        elif happening == "hold":
            disruptions.hold()
        elif happening == "pause":
            disruptions.pause()
        elif happening == "cancel":
            disruptions.cancel()
        elif happening == "repair":
            disruptions.repair()
        elif happening == "resets":
            assert rough is not None
            rough.be_rough()
        elif happening == "failover":
            assert isinstance(servers.redis, ReplicatedRedis)
            happening = f"failover ({servers.redis.fail_over()})"
        elif happening == "stall":
            servers.redis.stall(_SHORTEST_STALL_S + dice.random() * _MORE_STALL_S)
        elif happening == "redis":
            servers.redis.restart()
        else:
            server = dice.choice(servers.kafka.all)
            server.kill()
            server.start()
        happened[happening] += 1
        say(f"{sum(happened.values())}/{len(deck)} {happening}, accepted {_accepted(harness)}")
    disruptions.end_all()
    _await_the_end(harness, crew, len(harness.inputs()))
    crew.stop()
    return happened


def _await_the_end(harness: Harness, crew: _Crew, records: int) -> None:
    tail = harness.tail()
    try:
        ended, deadline = 0, time.monotonic() + _PATIENCE_S
        while tail.count < records:
            crew.tend()
            tail.poll()
            if tail.count > ended:  # the rate limit may leave much to do
                ended, deadline = tail.count, time.monotonic() + _PATIENCE_S
            assert time.monotonic() < deadline, (
                f"not all ended: {harness.status_counts()}, {len(harness.parked())} are parked\n"
                f"{_standstill(harness, crew)}"
            )
    finally:
        tail.close()


def _standstill(harness: Harness, crew: _Crew) -> str:
    """What is left of each partition, and what the workers said last."""
    servers: dict[str, str | int | float | bool] = {"bootstrap.servers": harness.bootstrap_servers}
    (group,) = AdminClient(servers).describe_consumer_groups([harness.name]).values()
    lines = []
    with closing(Consumer({**servers, "group.id": "standstill"})) as reader:
        for at in harness.committed_offsets():
            first, end = reader.get_watermark_offsets(at, 10)
            lines.append(f"{at.partition}: {at.offset} of {first} to {end}, {at.metadata}")
    for member in group.result().members:
        owned = sorted(each.partition for each in member.assignment.topic_partitions)
        lines.append(f"member {member.client_id}: {owned}")
    for worker in crew.workers:
        lines += [worker.log.name, *worker.words().splitlines()[-_LAST_LINES:]]
    return "\n".join(lines)


def _check_rejected(harness: Harness) -> None:
    """Assert that no recipient failed because of a hold, a pause or another mail in its batch."""
    for resolution in harness.resolutions():
        is_rejected = resolution.address.endswith(f"@{_REJECTED}")
        was_rejected = resolution.reason == "rejected"
        assert not was_rejected or is_rejected, f"rejected, and not guilty: {resolution}"
        assert resolution.status != "sent" or not is_rejected, f"sent, and guilty: {resolution}"
        assert resolution.status != "indeterminate" or resolution.reason == "provider_error", (
            resolution
        )


def _accepted(harness: Harness) -> int:
    return harness.sandbox.stats().accepted
