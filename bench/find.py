"""How long it takes to find a recipient and to filter outcomes in large topics:
`python -m bench find`.

The inputs, outcomes and mail events of other recipients stand before and behind those that are
looked for, which a real worker has mailed.
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
from bench.site import BenchSite, show, totals_alone
from streamer.ledger import campaigns
from streamer.model.mail_event import event_key
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
    """Measure how long `trace` and `outcomes` take in large topics."""
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
        trace = _run(site, "trace", "--email", content.address(_TARGETS - 1), "--json")
        nothing = _run(site, "outcomes", _OTHERS, "--all", "--since", "0s", "--json")
        alien = _run(site, "outcomes", "--all", "--json")
        filtered = _run(site, "outcomes", _OTHERS, "--all", "--status", "failed", "--json")
    if (alien.lines, filtered.lines) != (_TARGETS, len(range(0, records, _FAILED_EVERY))):
        raise BenchError(f"found {alien.lines} and {filtered.lines} outcomes")
    rates = {
        "of another campaign": records / (alien.cpu_seconds - nothing.cpu_seconds),
        "of another status": records / (filtered.cpu_seconds - nothing.cpu_seconds),
    }
    missed = trace.seconds > TRACE_BAR_S or min(rates.values()) < RATE_BAR
    words = [
        f"{records:,} records in each of three topics",
        f"trace by address: {trace.seconds:.1f} s, {trace.cpu_seconds:.1f} s of CPU "
        f"(bar: {TRACE_BAR_S:g} s)",
        *(
            f"outcomes left out as {what}: {rate:,.0f} per CPU second (bar: {RATE_BAR:,})"
            for what, rate in rates.items()
        ),
    ]
    report = {
        "records": records,
        "trace": trace._asdict(),
        "per_cpu_second": rates,
        "seconds": {"another campaign": alien.seconds, "another status": filtered.seconds},
        "bars": {"trace_seconds": TRACE_BAR_S, "per_cpu_second": RATE_BAR},
        "missed": missed,
    }
    show(report, "\n".join(words), json)
    raise typer.Exit(missed)


_FAILED_EVERY = 1_000


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
        f'"source":{{"topic":"find.recipients","partition":{number % 8},"offset":{number}}}}}'
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
    }
    for topic, make in of_topics.items():
        for chunk in _chunks(numbers):
            while len(producer) > 10 * _CHUNK:
                producer.poll(0.01)
            for key, value in map(make, chunk):
                producer.produce(topic, value, key, timestamp=timestamp)
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


def _run(site: BenchSite, command: str, *arguments: str) -> _CommandCost:
    """Run a command about the campaign, or about the one that is named first."""
    campaign = _CAMPAIGN
    if arguments[0] == _OTHERS:
        campaign, arguments = _OTHERS, arguments[1:]
    name = f"{content.ORGANIZATION}/{campaign}"
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "streamer", command, name, *arguments],
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
