"""Random kills over three campaigns, and the judge's word on what came of it.

Workers are killed and frozen, Redis and Kafka are killed and restarted, Redis stands still, its
connections break and its replies are lost, calls fail before and after they were accepted;
meanwhile accounts are held and released, campaigns paused and resumed,
batches refused for one of their mails, or set aside. A seed decides what happens in which order;
when, the machine does.
"""

import os
import random
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from streamer.sandbox import Faults, SandboxProcess
from streamer.stack import Kafka, Redis
from tests.chaos.counts import judge_counts
from tests.chaos.rough import RoughRedis, rough_redis
from tests.chaos.troubles import CAMPAIGNS, Troubles
from tests.kit.kafka_cluster import Brokers
from tests.kit.world import SESSION_TIMEOUT_MS, WorkerProcess, World

_GUILTY = "guilty.test"
_POISON = "poison.test"
_FAULTS = Faults(
    latency_ms=30,
    jitter_ms=60,
    error_before_percent=4,
    error_after_percent=4,
    cut_before_percent=4,
    cut_after_percent=3,
    guilty=frozenset({f"@{_GUILTY}"}),
    poison=frozenset({f"@{_POISON}"}),
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
_CALLS_FOR_GUILT = 14
"""To find one guilty mail among a hundred."""
_SHORTEST_STALL_S, _MORE_STALL_S = 4.5, 3.5
"""Clients wait for 5 s."""
_FROZEN_S = SESSION_TIMEOUT_MS / 1000 * 1.5


@dataclass(frozen=True, slots=True)
class Plan:
    """How much of what happens.

    Attributes:
        kafka_kills: of one of the brokers.
        stalls: times that Redis stands still for longer than its clients wait.
        resets: times that connections to Redis break, and replies are lost, for a while.
        refusals: times that Resend refuses the account or its sender for a while.
        holds: of an operator's.
        pauses: of one of the campaigns.
        cancels: of one of the campaigns, for good.
        repairs: runs of `retry` and `dlq replay`, some of them killed.
        guilty: recipients who spoil their batch: it is refused.
        poisonous: recipients whose batch fails again and again.
        pause_s: between two happenings, on average.
        brokers: 1, or 3 and more, each with a copy of everything.
        group_protocol: of the workers' group: `classic` or `consumer`.
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
    guilty: int = 4
    poisonous: int = 1
    seed: int = 0
    pause_s: float = 3.0
    brokers: int = 1
    group_protocol: str = "classic"

    def deck(self) -> list[str]:
        """The happenings, not shuffled yet."""
        return (
            ["kill"] * self.kills
            + ["zombie"] * self.zombies
            + ["redis"] * self.redis_kills
            + ["kafka"] * self.kafka_kills
            + ["stall"] * self.stalls
            + ["resets"] * self.resets
            + ["refusal"] * self.refusals
            + ["hold"] * self.holds
            + ["pause"] * self.pauses
            + ["cancel"] * self.cancels
            + ["repair"] * self.repairs
        )


@dataclass(slots=True)
class Report:
    """What happened. It is only made when the judge found nothing."""

    happened: Counter[str]
    endings: Counter[tuple[str, str | None]]
    accepted: int
    calls: int
    seconds: float


@dataclass(slots=True)
class _Crew:
    """The workers, each in its place; the dead are replaced."""

    world: World
    count: int
    workers: list[WorkerProcess] = field(default_factory=list)
    frozen: list[tuple[WorkerProcess, float]] = field(default_factory=list)

    def tend(self) -> None:
        """Replace the dead, and wake those who were frozen long enough."""
        for place in range(self.count):
            if place >= len(self.workers):
                self.workers.append(self.world.start_worker(place))
            elif not self.workers[place].alive:
                self.workers[place] = self.world.start_worker(place)
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
            worker.wait(90)  # one that stands still in the Kafka client ends itself within 45 s


def run_storm(plan: Plan, say: Callable[[str], None]) -> Report:
    """Run it, and judge. Raises AssertionError if a promise was broken."""
    started = time.monotonic()
    dice = random.Random(plan.seed)
    with (
        tempfile.TemporaryDirectory(prefix="streamer-chaos-") as folder,
        _servers(Path(folder), plan.brokers) as servers,
        rough_redis(servers.redis.port, plan.seed) as rough,
        SandboxProcess(limit=None, faults=_FAULTS, seed=plan.seed) as sandbox,
    ):
        world = World(
            servers.kafka.bootstrap_servers,
            servers.redis.url,
            sandbox,
            Path(folder),
            8,
            replication=servers.kafka.replication,
        )
        try:
            _prepare(world, plan, dice)
            happened = _rage(world, servers, rough, plan, dice, say)
            world.judge()
            _judge_guilt(world)
            judge_counts(world)
            stats = sandbox.stats()
            return Report(
                happened, world.words(), stats.accepted, stats.calls, time.monotonic() - started
            )
        finally:
            world.close()


class _Servers(NamedTuple):
    kafka: Brokers
    redis: Redis


@contextmanager
def _servers(folder: Path, brokers: int) -> Iterator[_Servers]:
    servers = _Servers(Brokers(folder, brokers), Redis(folder / "redis"))
    try:
        servers.redis.start()
        servers.kafka.start()
        yield servers
    finally:
        servers.kafka.stop()
        servers.redis.stop()


def _prepare(world: World, plan: Plan, dice: random.Random) -> None:
    """Produce the campaigns."""
    for number in range(plan.recipients):
        if dice.random() < _SUPPRESSED:
            world.suppress(f"user{number}@example.com")
    numbers = range(plan.recipients)
    marked = dice.sample(numbers, plan.guilty + plan.poisonous)
    domains = dict.fromkeys(marked[: plan.guilty], _GUILTY)
    domains |= dict.fromkeys(marked[plan.guilty :], _POISON)
    events = []
    for number in numbers:
        changes: dict[str, object] = {"campaign_id": CAMPAIGNS[number % len(CAMPAIGNS)]}
        if number in domains:
            changes["email"] = f"user{number}@{domains[number]}"
        elif dice.random() < _INVALID:
            changes["email"] = "nobody"
        events.append(world.event(number, **changes))
    again = [event for event in events if dice.random() < _DUPLICATES]
    world.produce([*events, *again, b"not json"])
    # All happenings should find something to disturb.
    calls = plan.recipients / 100 + plan.guilty * _CALLS_FOR_GUILT
    rate = max(2.0, 2 * calls / max(len(plan.deck()) * plan.pause_s, 1.0))
    world.settings["STREAMER_ACCOUNTS__DEFAULT__REQUESTS_PER_SECOND"] = f"{rate:.2f}"
    world.settings |= _SETTINGS
    if plan.group_protocol != "classic":  # there the broker says when a member is gone
        world.settings["STREAMER_KAFKA__GROUP_PROTOCOL"] = plan.group_protocol
        world.settings["STREAMER_KAFKA__PROPERTIES"] = "{}"


def _rage(
    world: World,
    servers: _Servers,
    rough: RoughRedis,
    plan: Plan,
    dice: random.Random,
    say: Callable[[str], None],
) -> Counter[str]:
    deck = plan.deck()
    dice.shuffle(deck)
    world.settings["STREAMER_REDIS__URL"] = rough.url
    crew, troubles = _Crew(world, plan.workers), Troubles(world, dice)
    happened: Counter[str] = Counter()
    for happening in deck:
        until = time.monotonic() + plan.pause_s * (0.5 + dice.random())
        while time.monotonic() < until:
            crew.tend()
            troubles.tend()
            time.sleep(0.05)
        victim = crew.workers[dice.randrange(plan.workers)]
        if happening == "kill":
            victim.kill()
        elif happening == "zombie":
            victim.signal(signal.SIGSTOP)
            crew.frozen.append((victim, time.monotonic() + _FROZEN_S))
        elif happening == "refusal":
            troubles.refuse()
        elif happening == "hold":
            troubles.hold()
        elif happening == "pause":
            troubles.pause()
        elif happening == "cancel":
            troubles.cancel()
        elif happening == "repair":
            troubles.repair()
        elif happening == "resets":
            rough.be_rough()
        elif happening == "stall":
            _stall(servers.redis, _SHORTEST_STALL_S + dice.random() * _MORE_STALL_S)
        else:
            server: Kafka | Redis
            server = servers.redis if happening == "redis" else dice.choice(servers.kafka.all)
            server.kill()
            server.start()
        happened[happening] += 1
        say(f"{sum(happened.values())}/{len(deck)} {happening}, accepted {_accepted(world)}")
    troubles.end_all()
    _await_the_end(world, crew, len(world.inputs()))
    crew.stop()
    return happened


def _stall(redis: Redis, seconds: float) -> None:
    """Let Redis stand still: what was asked meanwhile it does afterwards, for whomever."""
    pid = redis.pid
    if pid is None:
        return
    os.kill(pid, signal.SIGSTOP)
    time.sleep(seconds)
    os.kill(pid, signal.SIGCONT)


def _await_the_end(world: World, crew: _Crew, records: int) -> None:
    tail = world.tail()
    try:
        deadline = time.monotonic() + _PATIENCE_S
        while tail.count < records:
            crew.tend()
            tail.poll()
            assert time.monotonic() < deadline, (
                f"not all ended: {world.words()}, {len(world.parked())} are parked"
            )
    finally:
        tail.close()


def _judge_guilt(world: World) -> None:
    """Nobody fails for another's fault: not for a hold, a pause, or a neighbour in the batch."""
    for ending in world.endings():
        is_guilty = ending.address.endswith(f"@{_GUILTY}")
        rejected = ending.reason == "rejected"
        assert not rejected or is_guilty, f"rejected, and not guilty: {ending}"
        assert ending.status != "sent" or not is_guilty, f"sent, and guilty: {ending}"
        assert ending.status != "indeterminate" or ending.reason == "provider_error", ending


def _accepted(world: World) -> int:
    return world.sandbox.stats().accepted
