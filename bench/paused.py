"""A worker's memory while large records wait behind a failing batch: `python -m bench paused`.

The failing batch has recipients in every partition. They are followed by the large events of a
paused campaign, which are decided immediately but cannot be committed until the batch is resolved.
"""

import random
from collections.abc import Iterator
from contextlib import closing
from typing import Annotated

import orjson
import typer

from bench import content
from bench.site import PARTITIONS, BenchSite, show, totals_alone
from streamer.ledger import campaigns
from streamer.sandbox import Faults
from streamer.stack import Stack

MEMORY_BAR_MB = 200.0
_LOOK_EVERY_S = 0.5
_MAX_S = 300.0
_FAILING = range(100)
_MB = 1_000_000


def _events(count: int, size: int) -> Iterator[tuple[str, bytes]]:
    yield from content.events("failing", _FAILING, inline=True)
    noise = random.Random(20261125)
    for number in range(count):
        key = content.recipient_id(number)
        event = {
            "organization_id": content.ORGANIZATION,
            "campaign_id": "paused",
            "recipient_id": key,
            "email": content.address(1_000 + number),
            "variables": {"first_name": noise.randbytes(size // 2).hex()},
        }
        yield key, orjson.dumps(event)


def paused(
    events: Annotated[int, typer.Option(min=1, help="Events of the paused campaign.")] = 12_000,
    size: Annotated[int, typer.Option(min=1, help="Bytes per event.")] = 50_000,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Measure the memory of a worker blocked by a failing batch."""
    failing = frozenset(map(content.address, _FAILING))
    with (
        Stack.ephemeral() as stack,
        totals_alone(None) as sandbox,
        closing(BenchSite(stack, sandbox, "paused")) as site,
    ):
        site.make_topics()
        with site.redis() as client:
            campaigns.create(client, content.definition("paused"))
            campaigns.pause(client, content.ORGANIZATION, "paused")
        sandbox.set_faults(Faults(fail_addresses=failing))
        site.write(_events(events, size))
        with site.worker(10) as process:
            process.wait_until(
                lambda: site.committed() >= events + len(_FAILING), _LOOK_EVERY_S, _MAX_S
            )
            peak = process.peak_rss() / _MB
    verdict = "kept" if peak <= MEMORY_BAR_MB else "exceeded"
    show(
        {"events": events, "size": size, "peak_rss_mb": peak, "bar_mb": MEMORY_BAR_MB},
        f"{events:,} paused events of {size:,} bytes in {PARTITIONS} partitions: "
        f"{peak:.0f} MB at most; {MEMORY_BAR_MB:.0f} is {verdict}",
        json,
    )
    raise typer.Exit(peak > MEMORY_BAR_MB)
