"""`python -m bench`: speed compared with a plain loop, or memory over a long backlog.

`python -m bench limiter`, `stuck` and `mixed` measure shared resources, `paused` the memory of a
worker blocked by a failing batch, `due` how late a few mails are beside very many that wait,
`ledger` the memory of Redis, `recovery` the pause after a death, `suppression` the check of large
sets, `idle` a worker without work, `durability` the cost of confirmed writes, `gateway` webhooks,
`find` looking for one recipient, `storage` the bytes of a recipient.
"""

import signal
import sys
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from typing import Annotated

import typer

from bench.due import due
from bench.durability import durability
from bench.find import find
from bench.gateway import gateway
from bench.idle import idle
from bench.ledger import ledger
from bench.limiter import limiter
from bench.mixed import mixed
from bench.paused import paused
from bench.recovery import recovery
from bench.report import BenchReport
from bench.runs import (
    UNTHROTTLED,
    Result,
    middle,
    run_plain_loop,
    run_worker,
    run_workers,
)
from bench.site import show, totals_alone
from bench.storage import storage
from bench.stuck import stuck
from bench.suppression import suppression
from streamer.sandbox import SandboxProcess
from streamer.stack import Stack

_ROUNDS = 3
_RECIPIENTS = 50_000
_BACKLOG = 200_000
_MORE = 4
"""How many times as many recipients two workers get: one has begun before the other has joined."""

app = typer.Typer(invoke_without_command=True, add_completion=False)
app.command()(limiter)
app.command()(stuck)
app.command()(mixed)
app.command()(paused)
app.command()(due)
app.command()(ledger)
app.command()(recovery)
app.command()(suppression)
app.command()(idle)
app.command()(find)
app.command()(durability)
app.command()(gateway)
app.command()(storage)


@app.callback()
def bench(
    context: typer.Context,
    recipients: Annotated[
        int | None,
        typer.Option(min=1, help=f"Default: {_RECIPIENTS}, with --memory {_BACKLOG}."),
    ] = None,
    rounds: Annotated[
        int, typer.Option(min=1, help="Runs of each kind, interleaved; the median counts.")
    ] = _ROUNDS,
    memory: Annotated[
        bool, typer.Option("--memory", help="Measure only a worker's memory over a backlog.")
    ] = False,
    rate: Annotated[
        int, typer.Option(min=0, help="Calls per second with --memory; 0: unlimited.")
    ] = 0,
    steps: Annotated[
        bool,
        typer.Option("--steps", help="Also sample where the CPU time goes, in a run of its own."),
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Run measurements against a local Kafka, Redis and stand-in for Resend."""
    # SIGTERM must not leave workers, Kafka or Redis behind.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    if context.invoked_subcommand is not None:
        return
    with Stack.ephemeral() as stack, totals_alone(rate or None) as sandbox:
        if memory:
            backlog = recipients or _BACKLOG
            speed = rate or UNTHROTTLED
            result = run_worker(
                stack, sandbox, "backlog", backlog, inline=True, requests_per_second=speed
            )
            report = BenchReport([result])
        else:
            report = _compare(stack, sandbox, recipients or _RECIPIENTS, rounds, steps)
    show(report.as_json(), report.as_text(), json)
    raise typer.Exit(0 if report.adds_up else 1)


def _compare(
    stack: Stack, sandbox: SandboxProcess, recipients: int, rounds: int, steps: bool
) -> BenchReport:
    """Run workers and plain loop alternately, because the speed of machine and Kafka drifts."""
    site = (stack, sandbox)
    runs: dict[str, Callable[[str], Result]] = {
        "plain-loop": lambda name: run_plain_loop(*site, name, recipients),
        "worker-inline": lambda name: run_worker(*site, name, recipients, inline=True),
        "worker-campaign": lambda name: run_worker(*site, name, recipients, inline=False),
        "two-workers": lambda name: run_workers(*site, name, _MORE * recipients, 2),
    }
    found: defaultdict[str, list[Result]] = defaultdict(list)
    for number in range(rounds):
        for name, run in runs.items():
            found[name].append(replace(run(f"{name}-{number}"), name=name))
    loop, *workers = (middle(found[name]) for name in runs)
    sampled = run_worker(*site, "sampled", recipients, inline=True, sample=True) if steps else None
    return BenchReport(workers, loop, sampled)


if __name__ == "__main__":
    app()
