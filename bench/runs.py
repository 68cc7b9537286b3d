"""Runs that measure what a worker or the plain loop needs to process a backlog.

The backlog is produced before the process starts. CPU time is measured from when the process has
joined its group (worker: `/readyz` answers 200; loop: partitions are assigned), which excludes
interpreter startup, until the group's offsets reach the end of the backlog. For the worker, that
is the last commit of outcomes; for the loop, the last commit of offsets.
"""

import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import NamedTuple

import urllib3

from bench import content
from bench.measured import MeasuredProcess
from bench.plain_loop import READY
from bench.site import BenchSite, read_metrics
from streamer.demo import histogram
from streamer.ledger import campaigns, suppression
from streamer.sandbox import SandboxProcess
from streamer.stack import Stack
from streamer.stack.ports import free_port

UNTHROTTLED = 1e6
"""An unreachable rate, in calls per second."""

STEPS = {
    "suppression check": "streamer_suppression_check_seconds",
    "pin": "streamer_pin_seconds",
    "send": "streamer_send_seconds",
    "commit": "streamer_commit_seconds",
}

_START_S = 60.0
_STALL_S = 60.0
_READY_EVERY_S = 0.02
_LOOK_EVERY_S = 0.1


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Quantiles of a step's duration, in milliseconds."""

    p50_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class OutcomeSummary:
    """The outcomes of a run.

    Attributes:
        missing: number of recipients without an outcome.
        repeated: number of outcomes beyond each recipient's first.
    """

    statuses: dict[str, int]
    missing: int
    repeated: int


class _Cost(NamedTuple):
    cpu_s: float
    wall_s: float
    peak_rss_bytes: int


@dataclass(frozen=True, slots=True)
class Result:
    """The result of one run.

    Attributes:
        emails: number of emails sent.
        fill: mean number of emails per accepted call.
        steps: a worker's step durations by step name; empty for a loop.
        adds_up: whether every recipient has exactly one outcome and the number of mails reported
            as sent matches the number accepted by Resend.
    """

    name: str
    recipients: int
    emails: int
    cpu_s: float
    wall_s: float
    peak_rss_bytes: int
    calls: int
    fill: float
    steps: dict[str, Quantiles]
    ending: OutcomeSummary
    adds_up: bool

    @property
    def emails_per_cpu_second(self) -> float:
        """Throughput per CPU second, the measure least disturbed by other load on the machine."""
        return self.emails / self.cpu_s


def middle(results: Sequence[Result]) -> Result:
    """The run of median speed, or one that does not add up, if any."""
    for result in results:
        if not result.adds_up:
            return result
    return sorted(results, key=lambda result: result.emails_per_cpu_second)[len(results) // 2]


def run_worker(
    stack: Stack,
    sandbox: SandboxProcess,
    name: str,
    recipients: int,
    *,
    inline: bool,
    requests_per_second: float = UNTHROTTLED,
) -> Result:
    """Let one worker, started with `streamer run`, process a backlog."""
    port = free_port()

    def is_ready() -> bool:
        try:
            url = f"http://127.0.0.1:{port}/readyz"
            return urllib3.request("GET", url, retries=False).status == 200
        except urllib3.exceptions.HTTPError:
            return False  # not listening yet

    with closing(_prepared(stack, sandbox, name, recipients, inline=inline)) as site:
        with site.worker(requests_per_second, port) as process:
            process.wait_until(is_ready, _READY_EVERY_S, _START_S)
            cost = _measure(site, recipients, process)
            steps = _read_steps(read_metrics(port))
        return _result(site, recipients, cost, steps)


def run_plain_loop(
    stack: Stack, sandbox: SandboxProcess, name: str, recipients: int, *options: str
) -> Result:
    """Let the plain loop, with the given options, process a backlog with inline content."""
    with closing(_prepared(stack, sandbox, name, recipients, inline=True)) as site:
        environment = site.environment(UNTHROTTLED, 0)
        with MeasuredProcess(["-m", "bench.plain_loop", *options], environment) as process:
            process.await_line(READY)
            cost = _measure(site, recipients, process)
        return _result(site, recipients, cost, {})


def _prepared(
    stack: Stack, sandbox: SandboxProcess, name: str, recipients: int, *, inline: bool
) -> BenchSite:
    """Prepare topics, a campaign of this name, its suppression list and its backlog."""
    site = BenchSite(stack, sandbox, name)
    site.make_topics()
    with site.redis() as client:
        suppression.add(client, content.ORGANIZATION, content.suppressed(recipients))
        if not inline:
            campaigns.create(client, content.definition(name))
    sandbox.reset()
    site.write(content.events(name, range(recipients), inline=inline))
    return site


def _measure(site: BenchSite, recipients: int, process: MeasuredProcess) -> _Cost:
    cpu_before, started = process.cpu_seconds(), time.perf_counter()
    done = 0
    while done < recipients:
        before = done

        def moved(before: int = before) -> bool:
            nonlocal done
            done = site.committed()
            return done > before

        process.wait_until(moved, _LOOK_EVERY_S, _STALL_S)
    cpu_s = process.cpu_seconds() - cpu_before
    return _Cost(cpu_s, time.perf_counter() - started, process.peak_rss())


def _result(site: BenchSite, recipients: int, cost: _Cost, steps: dict[str, Quantiles]) -> Result:
    """Count the outcomes of a finished run."""
    statuses: Counter[str] = Counter()
    reached = set()
    for outcome in site.outcomes():
        statuses[outcome["status"]] += 1
        reached.add(outcome["recipient_id"])
    ending = OutcomeSummary(
        dict(statuses), recipients - len(reached), statuses.total() - len(reached)
    )
    stats, sent = site.sandbox.stats(), statuses["sent"]
    return Result(
        name=site.name,
        recipients=recipients,
        emails=sent,
        **cost._asdict(),
        calls=stats.calls,
        fill=stats.fill,
        steps=steps,
        ending=ending,
        adds_up=not ending.missing and not ending.repeated and stats.accepted == sent,
    )


def _read_steps(exposition: str) -> dict[str, Quantiles]:
    steps = {}
    for step, metric in STEPS.items():
        _, buckets = histogram.parse(exposition, metric)
        if any(buckets.values()):
            p50, p99 = (histogram.quantile(buckets, share) * 1000 for share in (0.5, 0.99))
            steps[step] = Quantiles(p50, p99)
    return steps
