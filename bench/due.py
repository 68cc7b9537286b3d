"""How late a few mails are while very many others wait: `python -m bench due`.

A large campaign is paused, and all its records are parked. Then three recipients of a campaign that
starts at a time are to be mailed at that time, and three of one that is resumed, at once.
"""

import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from bench import content
from bench.measured import MeasuredProcess
from bench.site import PARTITIONS, BenchSite, show, totals_alone
from streamer.ledger import campaigns
from streamer.ledger.connection import Client
from streamer.stack import Stack

LATE_BAR_S = 2.0
_FEW = 3
_PARK_S = 1_800.0
_START_IN = timedelta(seconds=30)
_SLOW_LOOK_S, _LOOK_S = 0.5, 0.01
_GIVE_UP_S = 120.0


def due(
    parked: Annotated[int, typer.Option(min=0, help="Records that wait.")] = 1_000_000,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Measure how late a few mails are while very many others wait."""
    with (
        Stack.ephemeral() as stack,
        totals_alone(None) as sandbox,
        closing(BenchSite(stack, sandbox, "due")) as site,
        site.redis() as client,
    ):
        site.make_topics()
        for name in ("paused", "resumed"):
            campaigns.create(client, content.definition(name))
            campaigns.pause(client, content.ORGANIZATION, name)
        site.write(content.events("paused", range(parked), inline=False))
        with site.worker(10) as process:

            def park(name: str, first: int, before: int) -> None:
                site.write(content.events(name, range(first, first + _FEW), inline=False))
                process.wait_until(lambda: site.committed() >= before + _FEW, _SLOW_LOOK_S, _PARK_S)

            process.wait_until(lambda: site.committed() >= parked, _SLOW_LOOK_S, _PARK_S)
            start = datetime.now(UTC) + _START_IN
            definition = content.definition("scheduled").model_copy(update={"start_at": start})
            campaigns.create(client, definition)
            park("scheduled", parked, parked)
            _sent(site, process, _FEW)
            scheduled_s = time.time() - start.timestamp()
            park("resumed", parked + _FEW, parked + 2 * _FEW)
            resumed_s = _timed(client, lambda: _sent(site, process, 2 * _FEW))
    worst = max(scheduled_s, resumed_s)
    show(
        {
            "parked": parked,
            "scheduled_late_s": scheduled_s,
            "resumed_late_s": resumed_s,
            "bar_s": LATE_BAR_S,
            "missed": worst > LATE_BAR_S,
        },
        f"with {parked:,} records parked in {PARTITIONS} partitions: {_FEW} scheduled mails were "
        f"{scheduled_s:.2f} s late, {_FEW} of a resumed campaign {resumed_s:.2f} s; "
        f"{LATE_BAR_S:g} s is {'exceeded' if worst > LATE_BAR_S else 'kept'}",
        json,
    )
    raise typer.Exit(worst > LATE_BAR_S)


def _sent(site: BenchSite, process: MeasuredProcess, count: int) -> None:
    process.wait_until(lambda: site.sandbox.stats().accepted >= count, _LOOK_S, _GIVE_UP_S)


def _timed(client: Client, wait: Callable[[], None]) -> float:
    started = time.monotonic()
    campaigns.resume(client, content.ORGANIZATION, "resumed")
    wait()
    return time.monotonic() - started
