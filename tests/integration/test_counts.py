"""Counts stay exact while many records are parked, brought back, parked again and cancelled."""

from collections.abc import Callable

import pytest

from streamer.ledger import campaigns
from streamer.model.campaign import CampaignName
from streamer.progress.counts import Counts
from streamer.progress.report import Reporter
from streamer.progress.store import Store
from tests.kit.harness import Harness, Tail, wait_until
from tests.kit.operator import CommandRunner


@pytest.mark.timeout(1_800)
@pytest.mark.parametrize(
    "records",
    # The second is more than the relay takes in a turn.
    [4_000, pytest.param(200_000, marks=pytest.mark.slow)],
)
def test_counts_stay_exact_across_crashes(
    make_harness: Callable[..., Harness], make_redis: Callable[..., object], records: int
) -> None:
    patience_s = 60 + records / 500
    harness = make_harness(redis=make_redis())
    harness.settings["STREAMER_PROGRESS__EMBEDDED"] = "true"
    operator = CommandRunner.of_harness(harness)
    reporter = Reporter(harness.redis, Store(harness.redis, harness.name))

    def counts() -> Counts:
        report = reporter.report(CampaignName(harness.organization, "spring"))
        return Counts() if report is None else report.counts

    def all_parked() -> bool:
        now = counts()
        return (now.received, now.parked) == (records, records)

    inputs = Tail(harness.bootstrap_servers, [harness.topics.recipients])

    def returned() -> int:
        inputs.poll()
        return inputs.count - records

    campaigns.pause(harness.redis, harness.organization, "spring")
    operator.run("account", "hold", "default", "--why", "a test")
    harness.produce(harness.event(number) for number in range(records))
    first, second = harness.start_worker(0), harness.start_worker(1)
    wait_until(all_parked, patience_s, "all wait for their campaign")

    operator.run("campaign", "resume", operator.campaign)
    wait_until(lambda: returned() > 0, patience_s, "they come back")
    third = harness.start_worker(2)
    first.kill()
    wait_until(
        lambda: returned() >= records and all_parked(),
        patience_s,
        "all wait for their account",
    )

    operator.run("campaign", "cancel", operator.campaign, "--yes")
    operator.run("account", "release", "default")
    wait_until(lambda: counts().outcomes > 0, patience_s, "they end")
    harness.start_worker(0)
    assert second.stop() == 0
    wait_until(lambda: counts().outcomes == records, patience_s, "all have ended")
    wait_until(lambda: counts().parked == 0, 30, "nobody is parked")
    over = counts()
    assert over.received == records
    assert over.resolutions == {("skipped", "cancelled"): records}
    assert third.stop() == 0
    inputs.close()
    harness.assert_exactly_once()
