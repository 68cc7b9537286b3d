"""What a worker costs that has nothing to do: `python -m bench idle`.

It has sent a campaign, is a member of its group, has all partitions, keeps counts and serves
metrics, as at the default settings.
"""

import time
from contextlib import closing
from typing import Annotated

import typer

from bench import content
from bench.site import BenchSite, show, totals_alone
from streamer.stack import Stack
from streamer.stack.ports import free_port

CPU_BAR = 0.01
THREADS_BAR = 20
_MAILS = 2_000
_SETTLE_S = 20.0
"""What is there while there is work rests after 10 s."""
_START_S = 60.0
_LOOK_EVERY_S = 0.1


def idle(
    seconds: Annotated[int, typer.Option(min=1, help="Duration of the measurement.")] = 30,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Measure what a worker costs that has nothing to do."""
    with (
        Stack.ephemeral() as stack,
        totals_alone(None) as sandbox,
        closing(BenchSite(stack, sandbox, "idle")) as site,
    ):
        site.make_topics()
        site.write(content.events("before", range(_MAILS), inline=True))
        settings = {"STREAMER_PROGRESS__EMBEDDED": "true"}
        with site.worker(10, free_port(), settings=settings) as process:
            process.wait_until(lambda: site.committed() >= _MAILS, _LOOK_EVERY_S, _START_S)
            time.sleep(_SETTLE_S)
            before, started = process.cpu_seconds(), time.monotonic()
            time.sleep(seconds)
            share = (process.cpu_seconds() - before) / (time.monotonic() - started)
            threads = process.threads()
    missed = share > CPU_BAR or threads > THREADS_BAR
    show(
        {
            "seconds": seconds,
            "cpu_share": share,
            "threads": threads,
            "bars": {"cpu_share": CPU_BAR, "threads": THREADS_BAR},
            "missed": missed,
        },
        f"an idle worker: {share:.2%} of a core, {threads} threads; "
        f"{CPU_BAR:.0%} and {THREADS_BAR} are {'missed' if missed else 'kept'}",
        json,
    )
    raise typer.Exit(missed)
