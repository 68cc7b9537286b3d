"""Runs that measure what workers or the plain loop need to process a backlog.

The backlog is produced before the processes start. CPU time is measured from when all have joined
their group (workers have partitions; the loop says so), which excludes interpreter startup, until
the group's offsets reach the end of the backlog. For workers, that is the last commit of outcomes;
for the loop, the last commit of offsets.
"""

import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import orjson
import urllib3

from bench import content
from bench.measured import READY, MeasuredProcess
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
    measured: int
    cpu_s: float
    wall_s: float
    peak_rss_bytes: int


@dataclass(frozen=True, slots=True)
class Result:
    """The result of one run.

    Attributes:
        emails: number of emails sent.
        measured: how many of the recipients were processed while time was measured.
        redis_bytes: how much more memory Redis uses than before, for each recipient.
        fill: mean number of emails per accepted call.
        steps: a worker's step durations by step name; empty for a loop.
        sampled: seconds of CPU time by step, if they were sampled.
        adds_up: whether every recipient has exactly one outcome and the number of mails reported
            as sent matches the number accepted by Resend.
    """

    name: str
    recipients: int
    emails: int
    measured: int
    cpu_s: float
    wall_s: float
    peak_rss_bytes: int
    redis_bytes: float
    calls: int
    fill: float
    steps: dict[str, Quantiles]
    ending: OutcomeSummary
    adds_up: bool
    sampled: dict[str, float] = field(default_factory=dict)

    @property
    def emails_per_cpu_second(self) -> float:
        """Throughput per CPU second, the measure least disturbed by other load on the machine.

        0 for a run that ended before it could be measured.
        """
        return self._measured_emails / self.cpu_s if self.cpu_s else 0.0

    @property
    def emails_per_second(self) -> float:
        """Throughput per second of wall time."""
        return self._measured_emails / self.wall_s

    @property
    def _measured_emails(self) -> float:
        return self.emails * self.measured / self.recipients


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
    sample: bool = False,
    settings: dict[str, str] | None = None,
) -> Result:
    """Let one worker, started with `streamer run`, process a backlog.

    Args:
        settings: further settings, by environment variable.
        sample: whether to sample where its CPU time goes, which costs some itself.
    """
    port = free_port()

    def is_ready() -> bool:
        try:
            url = f"http://127.0.0.1:{port}/readyz"
            return urllib3.request("GET", url, retries=False).status == 200
        except urllib3.exceptions.HTTPError:
            return False  # not listening yet

    with (
        TemporaryDirectory() as folder,
        closing(_prepared(stack, sandbox, name, recipients, inline=inline)) as site,
    ):
        samples = Path(folder, "samples.json") if sample else None
        redis_before = site.redis_bytes()
        with site.worker(requests_per_second, port, settings=settings, samples=samples) as process:
            process.wait_until(is_ready, _READY_EVERY_S, _START_S)
            cost = _measure(site, recipients, process)
            steps = _read_steps(read_metrics(port))
        result = _result(site, recipients, cost, steps, redis_before)
        if samples is None:
            return result
        return replace(result, sampled=orjson.loads(samples.read_bytes()))


def run_workers(
    stack: Stack, sandbox: SandboxProcess, name: str, recipients: int, workers: int
) -> Result:
    """Let several workers, started with `streamer run`, process a backlog of a campaign."""
    with closing(_prepared(stack, sandbox, name, recipients, inline=False)) as site:
        redis_before = site.redis_bytes()
        with site.worker(UNTHROTTLED, workers=workers) as process:
            process.wait_until(lambda: site.members() == workers, _READY_EVERY_S, _START_S)
            cost = _measure(site, recipients, process, first=site.committed())
        return _result(site, recipients, cost, {}, redis_before)


def run_plain_loop(stack: Stack, sandbox: SandboxProcess, name: str, recipients: int) -> Result:
    """Let the plain loop process a backlog with inline content."""
    with closing(_prepared(stack, sandbox, name, recipients, inline=True)) as site:
        redis_before = site.redis_bytes()
        environment = site.environment(UNTHROTTLED, 0)
        with MeasuredProcess(["-m", "bench.plain_loop"], environment) as process:
            process.await_line(READY)
            cost = _measure(site, recipients, process)
        return _result(site, recipients, cost, {}, redis_before)


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


def _measure(site: BenchSite, recipients: int, process: MeasuredProcess, first: int = 0) -> _Cost:
    """Measure until all recipients are committed, of which `first` already are."""
    cpu_before, started = process.cpu_seconds(), time.perf_counter()
    done = first
    while done < recipients:
        before = done

        def moved(before: int = before) -> bool:
            nonlocal done
            done = site.committed()
            return done > before

        process.wait_until(moved, _LOOK_EVERY_S, _STALL_S)
    cpu_s = process.cpu_seconds() - cpu_before
    wall_s = time.perf_counter() - started
    return _Cost(recipients - first, cpu_s, wall_s, process.peak_rss())


def _result(
    site: BenchSite,
    recipients: int,
    cost: _Cost,
    steps: dict[str, Quantiles],
    redis_before: int,
) -> Result:
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
        redis_bytes=(site.redis_bytes() - redis_before) / recipients,
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
