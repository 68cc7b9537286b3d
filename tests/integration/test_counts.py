"""Counts stay exact while many records are parked, brought back, parked again and cancelled.

TESTS_PARKED says how many. Some minutes, and more than a turn of the relay takes:

    TESTS_PARKED=200000 pytest tests/integration/test_counts.py
"""

import os
from collections.abc import Callable

import pytest

from streamer.ledger import campaigns
from streamer.model.campaign import CampaignName
from streamer.progress.counts import Counts
from streamer.progress.report import Reporter
from streamer.progress.store import Store
from tests.kit.harness import Harness, Tail, wait_until
from tests.kit.operator import CommandRunner

RECORDS = int(os.environ.get("TESTS_PARKED", "4000"))
PATIENCE_S = 60 + RECORDS / 500


@pytest.mark.timeout(4 * PATIENCE_S)
def test_counts_stay_exact_across_crashes(
    make_harness: Callable[..., Harness], make_redis: Callable[..., object]
) -> None:
    harness = make_harness(redis=make_redis())
    harness.settings["STREAMER_PROGRESS__EMBEDDED"] = "true"
    operator = CommandRunner.of_harness(harness)
    reporter = Reporter(harness.redis, Store(harness.redis, harness.name))

    def counts() -> Counts:
        report = reporter.report(CampaignName(harness.organization, "spring"))
        return Counts() if report is None else report.counts

    def all_parked() -> bool:
        now = counts()
        return (now.received, now.parked) == (RECORDS, RECORDS)

    inputs = Tail(harness.bootstrap_servers, [harness.topics.recipients])

    def returned() -> int:
        inputs.poll()
        return inputs.count - RECORDS

    campaigns.pause(harness.redis, harness.organization, "spring")
    operator.run("account", "hold", "default", "--why", "a test")
    harness.produce(harness.event(number) for number in range(RECORDS))
    first, second = harness.start_worker(0), harness.start_worker(1)
    wait_until(all_parked, PATIENCE_S, "all wait for their campaign")

    operator.run("campaign", "resume", operator.campaign)
    wait_until(lambda: returned() > 0, PATIENCE_S, "they come back")
    third = harness.start_worker(2)
    first.kill()
    wait_until(
        lambda: returned() >= RECORDS and all_parked(),
        PATIENCE_S,
        "all wait for their account",
    )

    operator.run("campaign", "cancel", operator.campaign, "--yes")
    operator.run("account", "release", "default")
    wait_until(lambda: counts().outcomes > 0, PATIENCE_S, "they end")
    harness.start_worker(0)
    assert second.stop() == 0
    wait_until(lambda: counts().outcomes == RECORDS, PATIENCE_S, "all have ended")
    wait_until(lambda: counts().parked == 0, 30, "nobody is parked")
    over = counts()
    assert over.received == RECORDS
    assert over.resolutions == {("skipped", "cancelled"): RECORDS}
    assert third.stop() == 0
    inputs.close()
    harness.assert_exactly_once()
