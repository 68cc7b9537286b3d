"""The runs: a worker or the plain loop empties a backlog, and what that took is measured.

The backlog is there before the process is. CPU time counts from the moment that the process is
a member of its group (the worker: `/readyz` says so; the loop: it has its partitions), so that
neither pays for the interpreter's start; until the group's offsets have reached the backlog's
end, which for the worker is the last commit of outcomes, for the loop that of its offsets.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass

import urllib3

from bench.measured import BenchError, MeasuredProcess
from bench.place import Ending, Place
from bench.plain_loop import READY
from bench.quantiles import quantile, read_histograms
from streamer.sandbox import SandboxProcess
from streamer.stack import Stack
from streamer.stack.ports import free_port

UNTHROTTLED = 1e6
"""Calls a second that nobody reaches."""

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
    """Of one step, in milliseconds."""

    p50_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class Result:
    """What one run took.

    Attributes:
        emails: those that were sent.
        fill: emails in each call that sent any.
        steps: of a worker, by the step's name.
        adds_up: every recipient has exactly one outcome, and Resend took what these say.
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
    ending: Ending
    adds_up: bool

    @property
    def emails_per_cpu_second(self) -> float:
        """The measure that other work on the machine disturbs least."""
        return self.emails / self.cpu_s


def middle(results: Sequence[Result]) -> Result:
    """Of several runs of one kind the one of middle speed; or one that does not add up."""
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
    """Let one worker, started as users start it, empty a backlog."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"

    def is_ready() -> bool:
        try:
            return urllib3.request("GET", f"{url}/readyz", retries=False).status == 200
        except urllib3.exceptions.HTTPError:
            return False  # it does not listen yet

    with closing(Place(stack, sandbox, name, recipients, inline=inline)) as place:
        place.prepare()
        environment = place.environment(requests_per_second, port)
        with MeasuredProcess(["-m", "streamer", "run"], environment) as process:
            process.wait_until(is_ready, _READY_EVERY_S, _START_S)
            return _measure(place, sandbox, process, lambda: _read_steps(f"{url}/metrics"))


def run_plain_loop(
    stack: Stack, sandbox: SandboxProcess, name: str, recipients: int, *options: str
) -> Result:
    """Let the plain loop, with options of its own, empty a backlog with inline content."""
    with closing(Place(stack, sandbox, name, recipients, inline=True)) as place:
        place.prepare()
        environment = place.environment(UNTHROTTLED, 0)
        with MeasuredProcess(["-m", "bench.plain_loop", *options], environment) as process:
            process.await_line(READY)
            return _measure(place, sandbox, process, dict)


def _measure(
    place: Place,
    sandbox: SandboxProcess,
    process: MeasuredProcess,
    read_steps: Callable[[], dict[str, Quantiles]],
) -> Result:
    cpu_before, started = process.cpu_seconds(), time.perf_counter()
    done = 0
    while done < place.recipients:
        before = done

        def moved(before: int = before) -> bool:
            nonlocal done
            done = place.committed()
            return done > before

        process.wait_until(moved, _LOOK_EVERY_S, _STALL_S)
    cpu_s = process.cpu_seconds() - cpu_before
    wall_s = time.perf_counter() - started
    peak = process.peak_rss()
    steps = read_steps()
    if code := process.stop():
        raise BenchError(f"{place.name} ended with {code}")
    stats, ending = sandbox.stats(), place.read_ending()
    sent = ending.statuses.get("sent", 0)
    return Result(
        name=place.name,
        recipients=place.recipients,
        emails=sent,
        cpu_s=cpu_s,
        wall_s=wall_s,
        peak_rss_bytes=peak,
        calls=stats.calls,
        fill=stats.fill,
        steps=steps,
        ending=ending,
        adds_up=not ending.missing and not ending.repeated and stats.accepted == sent,
    )


def _read_steps(url: str) -> dict[str, Quantiles]:
    histograms = read_histograms(url, STEPS.values())
    steps = {}
    for step, metric in STEPS.items():
        p50, p99 = (quantile(histograms[metric], share) for share in (0.5, 0.99))
        if p50 is not None and p99 is not None:
            steps[step] = Quantiles(p50 * 1000, p99 * 1000)
    return steps
