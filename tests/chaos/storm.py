"""Random kills over a campaign, and the judge's word on what came of it.

Workers are killed and frozen, Redis and Kafka are killed and restarted, calls fail before and
after they were accepted. A seed decides what happens in which order; when, the machine does.
"""

import random
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from streamer.sandbox import Faults, SandboxProcess
from streamer.stack import Stack
from tests.kit.world import SESSION_TIMEOUT_MS, WorkerProcess, World

_FAULTS = Faults(
    latency_ms=30,
    jitter_ms=60,
    error_before_percent=4,
    error_after_percent=4,
    cut_before_percent=4,
    cut_after_percent=3,
)
_DUPLICATES = 0.01
_SUPPRESSED = 0.02
_INVALID = 0.005
_FROZEN_S = SESSION_TIMEOUT_MS / 1000 * 1.5


@dataclass(frozen=True, slots=True)
class Plan:
    """How much of what happens."""

    recipients: int
    workers: int = 3
    kills: int = 10
    zombies: int = 2
    redis_kills: int = 1
    kafka_kills: int = 1
    seed: int = 0
    pause_s: float = 3.0
    """Between two happenings, on average."""


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
        Stack.ephemeral() as stack,
        SandboxProcess(limit=None, faults=_FAULTS, seed=plan.seed) as sandbox,
    ):
        world = World(stack.bootstrap_servers, stack.redis_url, sandbox, Path(folder), 8)
        try:
            records = _prepare(world, plan, dice)
            happened = _rage(world, stack, plan, dice, records, say)
            world.judge()
            stats = sandbox.stats()
            return Report(
                happened, world.words(), stats.accepted, stats.calls, time.monotonic() - started
            )
        finally:
            world.close()


def _prepare(world: World, plan: Plan, dice: random.Random) -> int:
    """Produce the campaign; returns how many records it has."""
    for number in range(plan.recipients):
        if dice.random() < _SUPPRESSED:
            world.suppress(f"user{number}@example.com")
    events = [
        world.event(number, **({"email": "nobody"} if dice.random() < _INVALID else {}))
        for number in range(plan.recipients)
    ]
    again = [event for event in events if dice.random() < _DUPLICATES]
    world.produce([*events, *again, b"not json"])
    # All happenings should find something to disturb.
    expected_s = _happenings(plan) * plan.pause_s
    rate = max(2.0, plan.recipients / 100 / max(expected_s, 1.0) * 2)
    world.settings["STREAMER_ACCOUNTS__DEFAULT__REQUESTS_PER_SECOND"] = f"{rate:.2f}"
    return len(events) + len(again) + 1


def _happenings(plan: Plan) -> int:
    return plan.kills + plan.zombies + plan.redis_kills + plan.kafka_kills


def _rage(
    world: World,
    stack: Stack,
    plan: Plan,
    dice: random.Random,
    records: int,
    say: Callable[[str], None],
) -> Counter[str]:
    deck = (
        ["kill"] * plan.kills
        + ["zombie"] * plan.zombies
        + ["redis"] * plan.redis_kills
        + ["kafka"] * plan.kafka_kills
    )
    dice.shuffle(deck)
    crew = _Crew(world, plan.workers)
    crew.tend()
    happened: Counter[str] = Counter()
    for happening in deck:
        _tend_for(crew, plan.pause_s * (0.5 + dice.random()))
        victim = crew.workers[dice.randrange(plan.workers)]
        if happening == "kill":
            victim.kill()
        elif happening == "zombie":
            victim.signal(signal.SIGSTOP)
            crew.frozen.append((victim, time.monotonic() + _FROZEN_S))
        else:
            server = stack.redis if happening == "redis" else stack.kafka
            server.kill()
            server.start()
        happened[happening] += 1
        say(f"{sum(happened.values())}/{len(deck)} {happening}, accepted {_accepted(world)}")
    deadline = time.monotonic() + 300
    while not _all_committed(world, records):
        crew.tend()
        assert time.monotonic() < deadline, f"not all ended: {world.words()}"
        time.sleep(0.5)
    crew.stop()
    return happened


def _tend_for(crew: _Crew, seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        crew.tend()
        time.sleep(0.05)


def _accepted(world: World) -> int:
    return world.sandbox.stats().accepted


def _all_committed(world: World, records: int) -> bool:
    return sum(world.committed().values()) >= records
