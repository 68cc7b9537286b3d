"""How long mails pause when a worker dies or is stopped: `python -m bench recovery`.

Recipients arrive all the time in every partition, each with an organization of its own, so that the
stand-in for Resend can tell them apart. What counts is the longest time without a mail of any
partition, around the death or the stop. All settings are at their defaults, except for the rate.
"""

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass
from itertools import count, pairwise
from typing import Annotated

import typer
from confluent_kafka import Producer
from rich.table import Table

from bench import content
from bench.measured import BenchError, MeasuredProcess
from bench.site import PARTITIONS, BenchSite, show
from streamer.sandbox import SandboxProcess
from streamer.stack import Stack

AGAIN_BAR_S = 3.0
TAKEOVER_BAR_S = 6.0
STOP_BAR_S = 2.0
RATE = 200
LATENCY_MS = 20
_ARRIVE_EVERY_S = 0.05
_PROTOCOLS = ("classic", "consumer")
_BEFORE_S = 2.0
_AFTER_S = 15.0
_START_S = 60.0
_LOOK_EVERY_S = 0.1

Start = Callable[[str], MeasuredProcess]
"""Starts a worker under an id."""


@dataclass(frozen=True, slots=True)
class Interruption:
    """What happens to a worker, called `a`.

    Attributes:
        bar_s: the longest pause that is good enough.
        others: how many other workers there are.
    """

    name: str
    bar_s: float
    others: int
    killed: bool
    comes_back: bool


INTERRUPTIONS = (
    Interruption("killed, started again", AGAIN_BAR_S, 0, killed=True, comes_back=True),
    Interruption("killed, another takes over", TAKEOVER_BAR_S, 1, killed=True, comes_back=False),
    Interruption("stopped, another takes over", STOP_BAR_S, 1, killed=False, comes_back=False),
    Interruption("stopped, started again", STOP_BAR_S, 1, killed=False, comes_back=True),
)


@dataclass(frozen=True, slots=True)
class RecoveryFinding:
    """The pauses of one kind.

    Attributes:
        pauses_s: the longest pause of any partition in each round, in ascending order.
    """

    interruption: str
    protocol: str
    bar_s: float
    pauses_s: Sequence[float]

    @property
    def median_s(self) -> float:
        """The median pause."""
        return self.pauses_s[len(self.pauses_s) // 2]

    @property
    def is_missed(self) -> bool:
        """Whether the bar was missed."""
        return self.median_s > self.bar_s


def measure(stack: Stack, interruption: Interruption, protocol: str, name: str) -> float:
    """Return the longest pause of any partition in one run."""
    with (
        SandboxProcess(
            limit=None, latency_ms=LATENCY_MS, count_addresses=False, keep_mails=0
        ) as sandbox,
        closing(BenchSite(stack, sandbox, name)) as site,
        ExitStack() as workers,
    ):
        site.make_topics()
        workers.enter_context(_arriving(site))

        def start(worker_id: str) -> MeasuredProcess:
            settings = {
                "STREAMER_KAFKA__GROUP_PROTOCOL": protocol,
                "STREAMER_WORKER__ID": worker_id,
                "STREAMER_LOG__LEVEL": "error",
            }
            return workers.enter_context(site.worker(RATE, settings=settings))

        worker = start("a")
        for number in range(interruption.others):
            start(f"other-{number}")
        members = 1 + interruption.others
        worker.wait_until(lambda: site.members() == members, _LOOK_EVERY_S, _START_S)
        worker.wait_until(lambda: _active(sandbox) == PARTITIONS, _LOOK_EVERY_S, _START_S)
        time.sleep(_BEFORE_S)
        at = time.time()
        if interruption.killed:
            worker.kill()
        elif worker.stop():
            raise BenchError("the worker did not stop in good order")
        if interruption.comes_back:
            start("a")
        time.sleep(_AFTER_S)
        return _longest_pause(sandbox, at - _BEFORE_S / 2, time.time())


@contextmanager
def _arriving(site: BenchSite) -> Iterator[None]:
    """Write a record to each partition again and again, for as long as the block runs."""
    ended = threading.Event()
    producer = Producer({"bootstrap.servers": site.stack.bootstrap_servers, "log_level": 0})

    def write() -> None:
        for number in count():
            for partition in range(PARTITIONS):
                organization = f"org-{partition}"
                for key, value in content.events(
                    site.name, [number], inline=True, organization=organization
                ):
                    producer.produce(site.topics.recipients, value, key, partition)
            if ended.wait(_ARRIVE_EVERY_S):
                break
        producer.flush(_START_S)

    thread = threading.Thread(target=write, name="arriving")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _active(sandbox: SandboxProcess) -> int:
    """The number of partitions that had a mail lately."""
    since = time.time() - _BEFORE_S
    return len({a.organization for a in sandbox.acceptances() if a.wall > since})


def _longest_pause(sandbox: SandboxProcess, begin: float, end: float) -> float:
    mails: defaultdict[str, list[float]] = defaultdict(list)
    for acceptance in sandbox.acceptances():
        if begin < acceptance.wall < end:
            mails[acceptance.organization].append(acceptance.wall)
    if len(mails) < PARTITIONS:
        raise BenchError("a partition had no mail at all")
    return max(
        after - before
        for walls in mails.values()
        for before, after in pairwise([begin, *sorted(walls), end])
    )


def recovery(
    rounds: Annotated[int, typer.Option(min=1, help="Runs of each kind; the median counts.")] = 3,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Measure how long mails pause when a worker dies or is stopped."""
    findings = []
    with Stack.ephemeral() as stack:
        for protocol in _PROTOCOLS:
            for number, interruption in enumerate(INTERRUPTIONS):
                name = f"recovery-{protocol}-{number}"
                pauses_s = [
                    measure(stack, interruption, protocol, f"{name}-{run}") for run in range(rounds)
                ]
                findings.append(
                    RecoveryFinding(
                        interruption.name, protocol, interruption.bar_s, sorted(pauses_s)
                    )
                )
    report = {
        "runs": [
            {**asdict(finding), "median_s": finding.median_s, "missed": finding.is_missed}
            for finding in findings
        ]
    }
    show(report, _table(findings), json)
    raise typer.Exit(1 if any(finding.is_missed for finding in findings) else 0)


def _table(findings: Sequence[RecoveryFinding]) -> Table:
    table = Table(
        title=f"The longest time without a mail of any of {PARTITIONS} partitions, s",
        title_justify="left",
    )
    table.add_column("a worker is", no_wrap=True)
    for name in ("protocol", "least", "median", "most", "bar", ""):
        table.add_column(name, justify="right")
    for finding in findings:
        table.add_row(
            finding.interruption,
            finding.protocol,
            f"{finding.pauses_s[0]:.1f}",
            f"{finding.median_s:.1f}",
            f"{finding.pauses_s[-1]:.1f}",
            f"≤ {finding.bar_s:.0f}",
            "missed" if finding.is_missed else "",
        )
    return table
