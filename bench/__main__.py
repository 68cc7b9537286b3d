"""`python -m bench`: speed beside a plain loop, or memory over a long backlog.

`python -m bench limiter` and `python -m bench stuck` measure what several have to share.
"""

import signal
import sys
from typing import Annotated

import typer
from rich.console import Console

from bench.limiter import limiter
from bench.report import Report
from bench.runs import UNTHROTTLED, run_plain_loop, run_worker
from bench.stuck import stuck
from streamer.sandbox import SandboxProcess
from streamer.stack import Stack

_RECIPIENTS = 50_000
_BACKLOG = 200_000

app = typer.Typer(invoke_without_command=True, add_completion=False)
app.command()(limiter)
app.command()(stuck)


@app.callback()
def bench(
    context: typer.Context,
    recipients: Annotated[
        int | None,
        typer.Option(min=1, help=f"[default: {_RECIPIENTS}, with --memory {_BACKLOG}]"),
    ] = None,
    memory: Annotated[
        bool, typer.Option("--memory", help="Only a worker's memory, over a backlog.")
    ] = False,
    rate: Annotated[
        int, typer.Option(min=0, help="Calls a second with --memory; 0: as many as it can.")
    ] = 0,
    flush_each: Annotated[
        bool, typer.Option("--flush-each", help="Let the loop flush after each outcome.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="JSON instead of tables.")] = False,
) -> None:
    """Measure on this machine's own Kafka, Redis and stand-in for Resend."""
    # So that whoever ends it leaves no worker, Kafka or Redis behind.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    if context.invoked_subcommand is not None:
        return
    with (
        Stack.ephemeral() as stack,
        SandboxProcess(
            limit=rate or None, count_addresses=False, keep_acceptances=False, keep_mails=0
        ) as sandbox,
    ):
        if memory:
            backlog = recipients or _BACKLOG
            speed = rate or UNTHROTTLED
            result = run_worker(
                stack, sandbox, "backlog", backlog, inline=True, requests_per_second=speed
            )
            report = Report([result])
        else:
            count = recipients or _RECIPIENTS
            flushing = ("--flush-each",) if flush_each else ()
            report = Report(
                [
                    run_worker(stack, sandbox, "worker-inline", count, inline=True),
                    run_worker(stack, sandbox, "worker-campaign", count, inline=False),
                ],
                [
                    run_plain_loop(stack, sandbox, "plain-loop", count, *flushing),
                    run_plain_loop(stack, sandbox, "loop-cached", count, "--cached", *flushing),
                ],
            )
    if json:
        sys.stdout.buffer.write(report.to_json() + b"\n")
    else:
        report.print(Console())
    raise typer.Exit(0 if report.adds_up else 1)


if __name__ == "__main__":
    app()
