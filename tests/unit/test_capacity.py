"""The tables of docs/capacity.md are computed from what it says was measured."""

import re

import pytest

from streamer.settings import Settings
from streamer.topics import wanted_topics
from tools.docs import ROOT

PAGE = (ROOT / "docs" / "capacity.md").read_text(encoding="utf-8")
_DAY_MS = 86_400_000
_MONTH_DAYS = 30
_EVENTS = 2
_REPLICAS = 3
_SUPPRESSED = 0.01
_PER_SECOND = 1_000
"""Mails of one account."""


def _rows(first: str) -> list[list[str]]:
    """Return the rows of the table whose first column has this heading."""
    table = PAGE.partition(f"\n| {first} |")[2].partition("\n\n")[0]
    return [
        [cell.strip() for cell in line.strip("| ").split("|")] for line in table.split("\n")[2:]
    ]


def _tables(section: str) -> list[list[str]]:
    text = PAGE.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    lines = re.findall(r"^\| (\d+ million) \| (.+) \|$", text, re.MULTILINE)
    return [[mails, *rest.split(" | ")] for mails, rest in lines]


MEASURED = [float(row[1].replace(",", "")) for row in _rows("what")]
MAILS, WEBHOOKS, CLAIM, FEEDBACK, ADDRESS, EVENT, OUTCOME, MAIL_EVENT = MEASURED


def _size(count: float) -> str:
    return f"{count / 1e6:,.0f} MB" if count < 999.5e6 else f"{count / 1e9:,.1f} GB"


def _time(seconds: float) -> str:
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 120 else f"{seconds / 3600:.1f} h"


@pytest.mark.parametrize("row", _tables("Workers, gateways and partitions"), ids=lambda row: row[0])
def test_the_time_of_workers_and_gateways(row: list[str]) -> None:
    mails = int(row[0].split()[0]) * 1e6
    assert row[1:] == [
        f"{mails / MAILS / 60:.0f} min",
        _time(mails / _PER_SECOND),
        f"{mails * _EVENTS / WEBHOOKS / 60:.0f} min",
    ]


@pytest.mark.parametrize("row", _tables("Redis"), ids=lambda row: row[0])
def test_the_memory_of_redis(row: list[str]) -> None:
    mails, settings = int(row[0].split()[0]) * 1e6, Settings()
    of_day = mails / _MONTH_DAYS
    parts = [
        of_day * settings.delivery.claims_ttl_s / 86_400 * CLAIM,
        of_day * settings.progress.keep_days * FEEDBACK,
        mails * _SUPPRESSED * ADDRESS,
    ]
    assert row[1:] == [_size(part) for part in (*parts, sum(parts))]


@pytest.mark.parametrize("row", _tables("Kafka"), ids=lambda row: row[0])
def test_the_disks_of_kafka(row: list[str]) -> None:
    mails = int(row[0].split()[0]) * 1e6
    topics = Settings().topics
    days = {
        topic.name: int(topic.config["retention.ms"]) / _DAY_MS
        for topic in wanted_topics(topics, 1, 1)
        if "retention.ms" in topic.config
    }
    parts = [
        mails / _MONTH_DAYS * days[topics.recipients] * EVENT,
        mails / _MONTH_DAYS * days[topics.outcomes] * OUTCOME,
        mails / _MONTH_DAYS * days[topics.events] * _EVENTS * MAIL_EVENT,
    ]
    total = sum(parts)
    assert row[1:] == [_size(part) for part in (*parts, total, _REPLICAS * total)]
