"""What it costs to have writes confirmed: `python -m bench durability`.

One worker processes the same backlog at each level, alternately. The Redis has a replica in every
run, so that what differs is only how long the worker waits for it, or for the disk.
"""

import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from bench.measured import BenchError
from bench.runs import Result, middle, run_worker
from bench.site import show, totals_alone
from streamer.ledger.connection import Client, connect
from streamer.settings import RedisSettings
from streamer.stack import RedisServer, Stack

CPU_BAR = 1.1
_RECIPIENTS = 20_000
_ROUNDS = 3
_FOLLOWS_S = 30


@dataclass(frozen=True, slots=True)
class DurabilityLevel:
    """What a write waits for.

    Attributes:
        appendfsync: the server's setting.
        settings: the worker's, by environment variable.
    """

    name: str
    appendfsync: str
    settings: dict[str, str]


LEVELS = (
    DurabilityLevel("one Redis", "everysec", {}),
    DurabilityLevel("replicas = 1", "everysec", {"STREAMER_REDIS__REPLICAS": "1"}),
    DurabilityLevel("fsync, always", "always", {"STREAMER_REDIS__FSYNC": "true"}),
    DurabilityLevel("fsync, everysec", "everysec", {"STREAMER_REDIS__FSYNC": "true"}),
)


@dataclass(frozen=True, slots=True)
class DurabilityFinding:
    """A level, compared with one Redis.

    Attributes:
        cpu_ratio: CPU time of the worker for each email.
        speed_ratio: emails per second.
        pin_ms: the median time of a pin.
    """

    name: str
    cpu_ratio: float
    speed_ratio: float
    pin_ms: float
    adds_up: bool

    @property
    def is_missed(self) -> bool:
        """Whether the bar was missed."""
        return self.cpu_ratio > CPU_BAR


def compare(results: Sequence[Result]) -> list[DurabilityFinding]:
    """Compare each result with the first."""
    first = results[0]
    return [
        DurabilityFinding(
            each.name,
            first.emails_per_cpu_second / each.emails_per_cpu_second,
            each.emails_per_second / first.emails_per_second,
            each.steps["pin"].p50_ms,
            each.adds_up,
        )
        for each in results
    ]


def durability(
    recipients: Annotated[int, typer.Option(min=1)] = _RECIPIENTS,
    rounds: Annotated[
        int, typer.Option(min=1, help="Runs of each level, interleaved; the median counts.")
    ] = _ROUNDS,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Measure what `redis.replicas` and `redis.fsync` cost, as ratios to neither."""
    found: defaultdict[str, list[Result]] = defaultdict(list)
    with Stack.ephemeral() as stack, totals_alone(None) as sandbox, _replicated(stack) as client:
        for number in range(rounds):
            for place, level in enumerate(LEVELS):
                client.config_set("appendfsync", level.appendfsync)
                result = run_worker(
                    stack,
                    sandbox,
                    f"level-{place}-{number}",
                    recipients,
                    inline=True,
                    settings=level.settings,
                )
                found[level.name].append(replace(result, name=level.name))
    findings = compare([middle(found[level.name]) for level in LEVELS])
    report = {
        "bar_cpu_ratio": CPU_BAR,
        "runs": [
            {
                "name": each.name,
                "cpu_ratio": each.cpu_ratio,
                "speed_ratio": each.speed_ratio,
                "pin_ms": each.pin_ms,
                "adds_up": each.adds_up,
                "missed": each.is_missed,
            }
            for each in findings
        ],
    }
    show(report, _table(findings), json)
    raise typer.Exit(0 if all(each.adds_up and not each.is_missed for each in findings) else 1)


@contextmanager
def _replicated(stack: Stack) -> Iterator[Client]:
    """A client of the stack's Redis, which has a replica during the block."""
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(connect(RedisSettings(url=stack.redis_url))) as client,
    ):
        replica = RedisServer(Path(folder) / "replica")
        replica.start()
        try:
            with closing(connect(RedisSettings(url=replica.url))) as its:
                its.replicaof("127.0.0.1", str(stack.redis.port))
            if not any(client.wait(1, 1_000) == 1 for _ in range(_FOLLOWS_S)):
                raise BenchError("the replica does not follow")
            yield client
        finally:
            replica.stop()


def _table(findings: Sequence[DurabilityFinding]) -> Table:
    table = Table(
        title=f"Cost of confirmed writes, as ratios to one Redis; bar of CPU: {CPU_BAR}",
        title_justify="left",
    )
    table.add_column("level", no_wrap=True)
    for name in ("CPU each", "emails per s", "pin ms", "missed"):
        table.add_column(name, justify="right")
    for each in findings:
        missed = "does not add up" if not each.adds_up else "missed" if each.is_missed else ""
        table.add_row(
            each.name,
            f"{each.cpu_ratio:.2f}",
            f"{each.speed_ratio:.2f}",
            f"{each.pin_ms:.2f}",
            missed,
        )
    return table
