"""Checks that progress counts match the topics after a storm."""

import threading
from collections import Counter

import orjson

from streamer.kafka.shared import shared_consumer
from streamer.ledger.connection import connect
from streamer.model.campaign import CampaignName
from streamer.model.reasons import Status
from streamer.progress.projector import Projector
from streamer.progress.report import Report, Reporter
from streamer.progress.store import Store
from streamer.settings import KafkaSettings, Settings
from tests.chaos.disruptions import CAMPAIGNS
from tests.kit.harness import Harness, wait_until

_PATIENCE_S = 60.0


def check_counts(harness: Harness) -> None:
    """Raise AssertionError if a campaign's progress does not match its topics.

    The workers counted until they were killed; a projector here counts the rest.
    """
    settings = Settings(
        kafka=KafkaSettings(bootstrap_servers=harness.bootstrap_servers, group_id=harness.name),
        topics=harness.topics,
        redis=harness.redis_settings,
    )
    received = Counter(
        event["campaign_id"]
        for record in harness.inputs()
        if (event := _event(record.value)) is not None
    )
    ended = Counter((e.campaign, e.status, e.reason or "") for e in harness.resolutions())
    client = connect(settings.redis)
    reporter = Reporter(client, Store(client, harness.name))
    stop = threading.Event()
    thread = threading.Thread(
        target=Projector(settings, shared_consumer(settings)).run, args=(stop,), name="counting"
    )
    thread.start()
    try:
        for campaign in CAMPAIGNS:
            name = CampaignName(harness.organization, campaign)

            def all_counted(name: CampaignName = name) -> bool:
                found = reporter.report(name)
                return (
                    found is not None
                    and found.ended == received[name.campaign_id]
                    and found.counts.parked == 0
                )

            wait_until(all_counted, _PATIENCE_S, f"all of {campaign} is counted: {received}")
            report = reporter.report(name)
            assert report is not None
            _compare(report, campaign, received[campaign], ended)
    finally:
        stop.set()
        thread.join(30)
        client.close()


def _compare(
    report: Report, campaign: str, received: int, ended: Counter[tuple[str, str, str]]
) -> None:
    counts = report.counts
    assert (counts.received, counts.parked) == (received, 0), report
    for status in Status:
        expected = sum(
            n for (name, word, _), n in ended.items() if (name, word) == (campaign, status)
        )
        assert counts.ended(status) == expected, (status, expected, report)
    for (name, word, reason), expected in ended.items():
        if name == campaign and reason:
            assert counts.resolutions[word, reason] == expected, (word, reason, expected, report)


def _event(value: bytes | None) -> dict[str, str] | None:
    try:
        event: dict[str, str] = orjson.loads(value or b"")
    except orjson.JSONDecodeError:
        return None
    return event
