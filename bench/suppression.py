"""How long the check of large suppression sets takes: `python -m bench suppression`.

Batches of 100 addresses, half of them suppressed, are looked up as workers do it, with claims and
the campaign's state in the same round trip, and once more by SMISMEMBER alone.
"""

import random
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Annotated

import typer
from rich.table import Table

from bench import content
from bench.site import redis_alone, show, used_memory
from streamer.ledger import suppression as suppressed
from streamer.ledger.connection import Client
from streamer.ledger.epoch import Epoch
from streamer.ledger.probe import Probes
from streamer.model.record import Record, RecordId
from streamer.settings import TopicSettings

P99_BAR_MS = 5.0
_BATCH = 100


@dataclass(frozen=True, slots=True)
class SuppressionFinding:
    """The measurements of one set. Times are of a round trip, in milliseconds.

    Attributes:
        bytes_each: memory per suppressed address.
        check: p50, p99 and the longest of a worker's check.
        smismember: the same of SMISMEMBER alone.
    """

    server: str
    addresses: int
    memory_bytes: int
    bytes_each: float
    check: tuple[float, float, float]
    smismember: tuple[float, float, float]

    @property
    def is_missed(self) -> bool:
        """Whether the bar was missed."""
        return self.check[1] > P99_BAR_MS


def measure(client: Client, server: str, addresses: int, checks: int) -> SuppressionFinding:
    """Fill a set, and check batches of addresses one after the other."""
    before = used_memory(client)
    suppressed.add(client, content.ORGANIZATION, map(content.address, range(addresses)))
    memory = used_memory(client) - before
    probes = Probes(client, Epoch.establish(client, ()))
    pick = random.Random(20261128)
    batches = [[pick.randrange(2 * addresses) for _ in range(_BATCH)] for _ in range(checks)]

    def check(numbers: list[int]) -> int:
        return len(probes.of(content.ORGANIZATION, list(map(_record, numbers))).suppressed)

    def smismember(numbers: list[int]) -> int:
        names = list(map(content.address, numbers))
        return sum(suppressed.check(client, content.ORGANIZATION, names))

    return SuppressionFinding(
        server,
        addresses,
        memory,
        memory / addresses,
        _time(check, batches, addresses),
        _time(smismember, batches, addresses),
    )


def _time(
    check: Callable[[list[int]], int], batches: list[list[int]], addresses: int
) -> tuple[float, float, float]:
    took_ms = []
    for numbers in batches:
        started = time.perf_counter()
        found = check(numbers)
        took_ms.append((time.perf_counter() - started) * 1000)
        assert found == sum(number < addresses for number in numbers)
    took_ms.sort()
    return took_ms[len(took_ms) // 2], took_ms[len(took_ms) * 99 // 100], took_ms[-1]


def _record(number: int) -> Record:
    record = Record(RecordId(TopicSettings().recipients, 0, number), None, None, None, 0.0)
    record.organization_id, record.campaign_id = content.ORGANIZATION, "spring-26"
    record.address = content.address(number)
    return record


def suppression(
    addresses: Annotated[
        int, typer.Option(min=1, help="Suppressed addresses of the organization.")
    ] = 10_000_000,
    checks: Annotated[int, typer.Option(min=100, help="Batches to check.")] = 5_000,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Measure the check of batches against a large suppression set."""
    with redis_alone() as (client, server):
        finding = measure(client, server, addresses, checks)
    report = {**asdict(finding), "bar_p99_ms": P99_BAR_MS, "missed": finding.is_missed}
    show(report, _table(finding), json)
    raise typer.Exit(1 if finding.is_missed else 0)


def _table(finding: SuppressionFinding) -> Table:
    table = Table(
        title=f"{finding.addresses:,} suppressed addresses in {finding.server}: "
        f"{finding.memory_bytes / 1e6:,.0f} MB, {finding.bytes_each:.0f} bytes each",
        title_justify="left",
    )
    table.add_column(f"ms for {_BATCH} addresses", no_wrap=True)
    for name in ("p50", "p99", "most", "bar of p99"):
        table.add_column(name, justify="right")
    missed = " missed" if finding.is_missed else ""
    for name, times, bar in (
        ("a worker's check", finding.check, f"≤ {P99_BAR_MS:.0f}{missed}"),
        ("SMISMEMBER alone", finding.smismember, ""),
    ):
        table.add_row(name, *(f"{each:.2f}" for each in times), bar)
    return table
