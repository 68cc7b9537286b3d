"""What the ledger keeps of a recipient in Redis: `python -m bench ledger`.

Campaigns of several sizes are pinned and resolved in full, as workers do it, each size in a Redis
of its own. What counts is all memory that Redis uses afterwards, less what it used before: claims,
results, and the keys of each organization.
"""

import random
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated
from uuid import UUID

import typer
from rich.table import Table

from bench import content
from bench.measured import BenchError
from bench.site import PARTITIONS, redis_alone, show, used_memory
from streamer.ledger.claims import Claims, Pinned
from streamer.ledger.connection import Client
from streamer.ledger.epoch import Epoch
from streamer.model.payload import Payload
from streamer.model.record import Record, RecordId
from streamer.model.result import BatchResult, ItemResult
from streamer.settings import DeliverySettings, TopicSettings

BYTES_BAR = 60.0
BAR_FROM = 1_000
"""The smallest campaign for which the bar counts."""
_BATCH = 100
_FIRST_OFFSET = 10_000_000
_SIZES = "20,1000,20000,1000000"
_WARM_UP = 5_000
_LEAST = 100_000
"""Recipients of all campaigns of a size together, at least."""


@dataclass(frozen=True, slots=True)
class LedgerFinding:
    """The measurements of campaigns of one size.

    Attributes:
        recipients: of each campaign; each campaign has an organization of its own.
        bytes_each: memory per recipient.
        keys: number of keys in Redis.
        pins_per_s: pinned and resolved batches per second of wall time, by one client.
    """

    recipients: int
    campaigns: int
    bytes_each: float
    keys: int
    pins_per_s: float

    @property
    def is_missed(self) -> bool:
        """Whether the bar was missed, if there is one for this size."""
        return self.recipients >= BAR_FROM and self.bytes_each > BYTES_BAR


def measure(client: Client, recipients: int, campaigns: int) -> LedgerFinding:
    """Pin and resolve campaigns of this size in an empty Redis."""
    claims = Claims(client, Epoch.establish(client, ()), DeliverySettings().claims_ttl_s)
    for start in range(0, _WARM_UP, _BATCH):  # scripts, buffers and the like are no recipient's
        _send(claims, "warm-up", range(start, start + _BATCH))
    before, started = used_memory(client), time.perf_counter()
    for number in range(campaigns):
        for start in range(0, recipients, _BATCH):
            _send(claims, f"org-{number}", range(start, min(start + _BATCH, recipients)))
    took_s = time.perf_counter() - started
    batches = campaigns * -(-recipients // _BATCH)
    return LedgerFinding(
        recipients,
        campaigns,
        (used_memory(client) - before) / (recipients * campaigns),
        client.dbsize(),
        batches / took_s,
    )


_ids = random.Random(20261128)


def _send(claims: Claims, organization: str, numbers: Sequence[int]) -> None:
    records = [_record(organization, number) for number in numbers]
    batch_id = _ids.randbytes(12).hex()
    payload = Payload([b"{}"] * len(records))
    pinned = claims.pin(organization, batch_id, "default", "acme.example", records, payload)
    if not isinstance(pinned, Pinned):
        raise BenchError(f"not pinned: {pinned}")
    items = [ItemResult.sent(str(UUID(bytes=_ids.randbytes(16), version=4))) for _ in records]
    claims.resolve(organization, batch_id, "", BatchResult(1, items))


def _record(organization: str, number: int) -> Record:
    record_id = RecordId(
        TopicSettings().recipients, number % PARTITIONS, _FIRST_OFFSET + number // PARTITIONS
    )
    record = Record(record_id, None, None, None, 0.0)
    record.organization_id, record.campaign_id = organization, "spring-26"
    record.address = content.address(number)
    return record


def ledger(
    sizes: Annotated[
        str, typer.Option(help="Recipients per campaign, each size measured separately.")
    ] = _SIZES,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Measure the memory that the ledger takes for each recipient."""
    findings = []
    version = ""
    for size in map(int, sizes.split(",")):
        with redis_alone() as (client, server):
            findings.append(measure(client, size, max(1, _LEAST // size)))
            version = server
    report = {
        "server": version,
        "bar_bytes": BYTES_BAR,
        "bar_from": BAR_FROM,
        "runs": [{**asdict(finding), "missed": finding.is_missed} for finding in findings],
    }
    show(report, _table(version, findings), json)
    raise typer.Exit(1 if any(finding.is_missed for finding in findings) else 0)


def _table(version: str, findings: Sequence[LedgerFinding]) -> Table:
    table = Table(
        title=f"Memory of {version} for each recipient; bar from {BAR_FROM:,} recipients on: "
        f"{BYTES_BAR:.0f} bytes",
        title_justify="left",
    )
    for name in ("recipients", "campaigns", "bytes each", "keys", "batches/s", "missed"):
        table.add_column(name, justify="right")
    for finding in findings:
        table.add_row(
            f"{finding.recipients:,}",
            f"{finding.campaigns:,}",
            f"{finding.bytes_each:.1f}",
            f"{finding.keys:,}",
            f"{finding.pins_per_s:,.0f}",
            "missed" if finding.is_missed else "",
        )
    return table
