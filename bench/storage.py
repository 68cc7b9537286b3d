"""What a recipient takes in Kafka, by topic, and in Redis: `python -m bench storage`.

A worker mails a campaign, whose content is its definition's, and each mail is then delivered, as a
webhook says. What counts in Kafka is the size of the log's segments, of one replica.
"""

from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated
from uuid import uuid4

import typer
from confluent_kafka import Producer
from pydantic import JsonValue
from rich.table import Table

from bench import content
from bench.measured import BenchError
from bench.site import BenchSite, show, totals_alone
from streamer.kafka.properties import producer_properties
from streamer.ledger import campaigns, keys
from streamer.model.mail_event import Origin, event_of_webhook
from streamer.settings import KafkaSettings, Settings
from streamer.stack import Stack

_CAMPAIGN = "storage"
_RATE = 10.0
"""Calls a second, as an account allows: it decides how much a transaction carries."""
_LOOK_EVERY_S = 0.1
_STALL_S = 300.0
_FLUSH_S = 60.0
_SEGMENT = "*.log"


def storage(
    recipients: Annotated[int, typer.Option(min=1_000, help="How many to mail.")] = 50_000,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Measure the bytes that a recipient takes in each topic, and in Redis."""
    with (
        Stack.ephemeral() as stack,
        totals_alone(None) as sandbox,
        closing(BenchSite(stack, sandbox, "storage")) as site,
        site.redis() as client,
    ):
        site.make_topics()
        campaigns.create(client, content.definition(_CAMPAIGN))
        site.write(content.events(_CAMPAIGN, range(recipients), inline=False))
        before = site.redis_bytes()
        with site.worker(_RATE) as process:
            process.wait_until(lambda: site.committed() == recipients, _LOOK_EVERY_S, _STALL_S)
            ledger = (site.redis_bytes() - before) / recipients
            _deliver(site, recipients)
            counts = keys.event_counts(content.ORGANIZATION, _CAMPAIGN)

            def counted() -> bool:
                found = client.hget(counts, "delivered")
                return isinstance(found, bytes) and int(found) == recipients

            process.wait_until(counted, _LOOK_EVERY_S, _STALL_S)
            in_redis = (site.redis_bytes() - before) / recipients
        in_kafka = {
            setting: _bytes(stack.folder, str(topic)) / recipients
            for setting, topic in site.topics.model_dump().items()
        }
    table = Table(title=f"Bytes for each of {recipients:,} recipients", title_justify="left")
    table.add_column("where", no_wrap=True)
    table.add_column("bytes", justify="right")
    for setting, size in in_kafka.items():
        table.add_row(f"Kafka, topics.{setting}", f"{size:,.0f}")
    table.add_row("Redis, claims and results", f"{ledger:,.0f}")
    table.add_row("Redis, what was delivered", f"{in_redis - ledger:,.0f}")
    report = {
        "recipients": recipients,
        "kafka": in_kafka,
        "redis": {"ledger": ledger, "events": in_redis - ledger},
    }
    show(report, table, json)


def _deliver(site: BenchSite, recipients: int) -> None:
    """Write that each mail was delivered, as the gateway does."""
    settings = Settings(kafka=KafkaSettings(bootstrap_servers=site.stack.bootstrap_servers))
    producer = Producer({**producer_properties(settings, "storage"), "acks": "all"})
    for number in range(recipients):
        event_id = f"msg_{number:027}"
        origin = Origin("webhook", "default", event_id, datetime.now(UTC))
        payload: dict[str, JsonValue] = {
            "type": "email.delivered",
            "created_at": origin.received_at.isoformat(),
            "data": {
                "email_id": str(uuid4()),
                "from": "Acme <news@acme.example>",
                "to": [content.address(number)],
                "subject": f"Robin {number}, spring is here",
                "tags": {"organization": content.ORGANIZATION, "campaign": _CAMPAIGN},
            },
        }
        event = event_of_webhook(payload, origin, site.topics.recipients)
        producer.produce(site.topics.events, event.value, event.key)
        producer.poll(0)
    if producer.flush(_FLUSH_S):
        raise BenchError("Kafka did not accept the events in time")


def _bytes(folder: Path, topic: str) -> int:
    """Return the size of a topic's segments."""
    return sum(
        file.stat().st_size for file in folder.rglob(_SEGMENT) if _topic(file.parent.name) == topic
    )


def _topic(directory: str) -> str:
    return directory.rpartition("-")[0]
