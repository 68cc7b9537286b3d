"""How long it takes to find a recipient, and to filter outcomes and dead letters, in large topics:
`python -m bench find`.

The inputs, outcomes, mail events and dead letters of other recipients stand before and behind those
that are looked for, which a real worker has mailed.
"""

import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Annotated, NamedTuple

import orjson
import typer
from confluent_kafka import Producer

from bench import content
from bench.measured import BenchError
from bench.site import PARTITIONS, BenchSite, show, totals_alone
from streamer.ledger import campaigns
from streamer.model.mail_event import event_key
from streamer.model.reasons import DeadReason
from streamer.model.record import Headers, RecordId
from streamer.model.wire import DETAIL, REASON, source_headers
from streamer.stack import Stack

TRACE_BAR_S = 2.0
RATE_BAR = 250_000
_CAMPAIGN, _OTHERS = "target", "others"
_TARGETS = 200
_CHUNK = 10_000
_FLUSH_S = 300.0
_START_S = 60.0
_AGE_MS = 1_800_000
"""Older than clocks may differ by, which `trace` allows for."""
_LOOK_EVERY_S = 0.1
_COMMAND_S = 1_800.0
_AT_END = {
    "STREAMER_KAFKA__PROPERTIES": orjson.dumps({"auto.offset.reset": "latest"}).decode(),
}

Value = Callable[[int], tuple[bytes, bytes]]
"""Makes the key and the value of a numbered record."""


class _CommandCost(NamedTuple):
    """What a command took, and the number of lines that it printed."""

    seconds: float
    cpu_seconds: float
    lines: int


def find(
    records: Annotated[
        int, typer.Option(min=1_000, help="Number of records in each topic.")
    ] = 5_000_000,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Measure how long `trace`, `outcomes`, `retry` and `dlq` take in large topics."""
    with (
        Stack.ephemeral() as stack,
        totals_alone(None) as sandbox,
        closing(BenchSite(stack, sandbox, "find")) as site,
    ):
        site.make_topics()
        with site.redis() as client:
            campaigns.create(client, content.definition(_CAMPAIGN))
        _fill(site, range(records // 2), _AGE_MS)
        _mail(site, records // 2)
        _fill(site, range(records // 2, records), 0)
        others, target = _name(_OTHERS), _name(_CAMPAIGN)
        trace = _run(site, "trace", target, "--email", content.address(_TARGETS - 1), "--json")
        by_id = ("--recipient", content.recipient_id(_TARGETS - 1), "--json")
        trace_of_id = _run(site, "trace", target, *by_id)
        nothing = _run(site, "outcomes", others, "--all", "--since", "0s", "--json")
        alien = _run(site, "outcomes", target, "--all", "--json")
        filtered = _run(site, "outcomes", others, "--all", "--status", "failed", "--json")
        dead = _run(site, "dlq", "list", "--reason", DeadReason.UNDECODABLE, "--json")
        retry = _run(site, "retry", others, "--status", "failed", "--dry-run", "--json")
    few = len(range(0, records, _FAILED_EVERY))
    if (alien.lines, filtered.lines, dead.lines) != (_TARGETS, few, few):
        raise BenchError(f"found {alien.lines}, {filtered.lines} and {dead.lines} records")
    rates = {
        "outcomes of another campaign": records / (alien.cpu_seconds - nothing.cpu_seconds),
        "outcomes of another status": records / (filtered.cpu_seconds - nothing.cpu_seconds),
        "dead letters of another reason": records / (dead.cpu_seconds - nothing.cpu_seconds),
        # It reads the outcomes twice, and the inputs for copies and for originals.
        "what retry reads": 4 * records / (retry.cpu_seconds - nothing.cpu_seconds),
    }
    missed = max(trace.seconds, trace_of_id.seconds) > TRACE_BAR_S or min(rates.values()) < RATE_BAR
    words = [
        f"{records:,} records in each of four topics",
        *(
            f"trace by {what}: {cost.seconds:.1f} s, {cost.cpu_seconds:.1f} s of CPU "
            f"(bar: {TRACE_BAR_S:g} s)"
            for what, cost in (("address", trace), ("id", trace_of_id))
        ),
        *(
            f"{what}: {rate:,.0f} per CPU second (bar: {RATE_BAR:,})"
            for what, rate in rates.items()
        ),
    ]
    report = {
        "records": records,
        "trace": trace._asdict(),
        "trace_of_id": trace_of_id._asdict(),
        "per_cpu_second": rates,
        "seconds": {
            "another campaign": alien.seconds,
            "another status": filtered.seconds,
            "dead letters": dead.seconds,
            "retry": retry.seconds,
        },
        "bars": {"trace_seconds": TRACE_BAR_S, "per_cpu_second": RATE_BAR},
        "missed": missed,
    }
    show(report, "\n".join(words), json)
    raise typer.Exit(missed)


_FAILED_EVERY = 999
"""Prime to the number of partitions, so that each has some."""


def _input(number: int) -> tuple[bytes, bytes]:
    key = f"o-{number}"
    value = (
        f'{{"organization_id":"{content.ORGANIZATION}","campaign_id":"{_OTHERS}",'
        f'"recipient_id":"{key}","email":"other.{number}@mail-{number % 50}.example",'
        f'"variables":{{"first_name":"N{number}","city":"Springfield","points":{number % 99}}}}}'
    )
    return key.encode(), value.encode()


def _outcome(number: int) -> tuple[bytes, bytes]:
    key = f"o-{number}"
    is_failed = number % _FAILED_EVERY == 0
    status = '"failed","reason":"rejected"' if is_failed else '"sent","reason":null'
    email_id = "null" if is_failed else f'"{number:032x}"'
    value = (
        f'{{"organization_id":"{content.ORGANIZATION}","campaign_id":"{_OTHERS}",'
        f'"recipient_id":"{key}","email":"other.{number}@mail-{number % 50}.example",'
        f'"status":{status},"detail":null,"email_id":{email_id},'
        f'"batch_id":"{number // 100:024x}","attempts":1,'
        f'"occurred_at":"2026-11-24T03:40:00.123Z",'
        f'"source":{{"topic":"find.recipients","partition":{number % PARTITIONS},'
        f'"offset":{number // PARTITIONS}}}}}'
    )
    return key.encode(), value.encode()


def _event(number: int) -> tuple[bytes, bytes]:
    address = f"other.{number}@mail-{number % 50}.example"
    value = (
        f'{{"type":"delivered","occurred_at":"2026-11-24T03:41:00.000Z",'
        f'"organization_id":"{content.ORGANIZATION}","campaign_id":"{_OTHERS}","source":null,'
        f'"address":"{address}","email_id":"{number:032x}","details":{{}},"tags":{{}}}}'
    )
    return event_key(address), value.encode()


def _dead_letter(number: int) -> tuple[bytes, bytes]:
    key, value = _input(number)
    return key, value[:-1] if number % _FAILED_EVERY == 0 else value


def _headers(number: int) -> Headers:
    is_broken = number % _FAILED_EVERY == 0
    reason = DeadReason.UNDECODABLE if is_broken else DeadReason.UNKNOWN_CAMPAIGN
    source = RecordId("find.recipients", number % PARTITIONS, number // PARTITIONS)
    return [(REASON, reason.encode()), (DETAIL, b"it is not there"), *source_headers(source)]


def _fill(site: BenchSite, numbers: range, age_ms: int) -> None:
    """Write the records of other recipients to each topic, as if they were of that age."""
    timestamp = int(time.time() * 1000) - age_ms
    producer = Producer(
        {
            "bootstrap.servers": site.stack.bootstrap_servers,
            "linger.ms": 20,
            "compression.type": "lz4",
            "queue.buffering.max.messages": 1_000_000,
            "log_level": 0,
        }
    )
    of_topics: dict[str, Value] = {
        site.topics.recipients: _input,
        site.topics.outcomes: _outcome,
        site.topics.events: _event,
        site.topics.dead_letters: _dead_letter,
    }
    for topic, make in of_topics.items():
        for chunk in _chunks(numbers):
            while len(producer) > 10 * _CHUNK:
                producer.poll(0.01)
            for number in chunk:
                key, value = make(number)
                headers = _headers(number) if topic == site.topics.dead_letters else []
                producer.produce(topic, value, key, timestamp=timestamp, headers=headers)
    if producer.flush(_FLUSH_S):
        raise BenchError("Kafka did not accept the records in time")


def _chunks(numbers: range) -> Iterator[range]:
    for start in range(0, len(numbers), _CHUNK):
        yield numbers[start : start + _CHUNK]


def _mail(site: BenchSite, before: int) -> None:
    """Let a worker mail those who are looked for.

    Args:
        before: the number of inputs that are there already, which the worker does not read.
    """
    with site.worker(1_000, settings=_AT_END) as process:
        process.wait_until(lambda: site.committed() == before, _LOOK_EVERY_S, _START_S)
        site.write(content.events(_CAMPAIGN, range(_TARGETS), inline=False))
        process.wait_until(
            lambda: site.sandbox.stats().accepted == _TARGETS, _LOOK_EVERY_S, _START_S
        )


def _name(campaign: str) -> str:
    return f"{content.ORGANIZATION}/{campaign}"


def _run(site: BenchSite, command: str, *arguments: str) -> _CommandCost:
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "streamer", command, *arguments],
        env=site.environment(10, 0),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=_COMMAND_S,
        check=False,
    )
    seconds, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode not in (0, 1) or b"Traceback" in done.stderr:
        raise BenchError(f"{command}: {done.stderr.decode()}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return _CommandCost(seconds, cpu, done.stdout.count(b"\n"))
