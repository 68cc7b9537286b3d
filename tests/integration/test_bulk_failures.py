"""A campaign most of whose mails fail stops itself, and no other."""

import contextlib
import secrets
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamer.ledger import campaigns, keys
from streamer.ledger.campaigns import CampaignProbe
from streamer.ledger.connection import connect
from streamer.ledger.last_mails import LastMails
from streamer.model.campaign import CampaignState
from streamer.model.reasons import Reason, Status
from streamer.model.record import Outcome, Record, RecordId
from streamer.settings import BreakerSettings
from streamer.settings import RedisSettings as RedisSettings
from streamer.stack import Stack
from streamer.worker.bulk import BulkStop
from streamer.worker.waiter import Waiter
from tests.kit.harness import MESSAGE, Harness, wait_until
from tests.kit.operator import CommandRunner

_WORKERS_HOLD = 8 * 2 * 100
"""Records that a worker may have under way when it finds out."""


def test_a_failing_campaign_is_paused(harness: Harness) -> None:
    harness.settings["STREAMER_BREAKER__CAMPAIGN_MAILS"] = "200"
    operator = CommandRunner.of_harness(harness)

    def state(name: str) -> CampaignState | None:
        return campaigns.state(harness.redis, harness.organization, name)

    spring = operator.campaign
    content = ("--from", "a <a@acme.test>", "--subject", "s", "--text", "-")
    operator.run("campaign", "create", spring, *content, stdin=b"Hello {{ First_Name }}")
    harness.produce(harness.event(n, message=None) for n in range(3_000))
    harness.produce(harness.event(n, campaign_id="summer") for n in range(100))
    broken = {**MESSAGE, "subject": "{{ nobody }}"}
    harness.produce(harness.event(n, campaign_id="autumn", message=broken) for n in range(300))
    harness.produce(harness.event(n, campaign_id="winter", email="nobody") for n in range(300))
    with harness.worker() as worker:
        wait_until(
            lambda: harness.status_counts()["sent", None] == 100, 30, "the other one is sent"
        )
        wait_until(
            lambda: len(harness.parked()) + len(harness.resolutions()) == 3_700, 30, "all rest"
        )
        failed = harness.status_counts()["failed", "render_error"]
        assert 100 < failed < _WORKERS_HOLD
        assert {state(name) for name in ("spring", "autumn", "winter")} == {CampaignState.PAUSED}
        why = str(operator.answer("campaign", "show", spring)["paused_for"])
        assert "mails failed as render_error" in why
        assert "First_Name" in why
        assert f"campaign={spring}" in worker.words()
        assert state("summer") is None


def _ended(organization: str, count: int, reason: Reason | None) -> list[Record]:
    records = []
    for offset in range(count):
        record = Record(RecordId("t", 0, offset), None, None, None, 0.0)
        record.organization_id, record.campaign_id = organization, "spring"
        record.resolve(Outcome(Status.SENT) if reason is None else Outcome.of(reason, "words"), 1.0)
        records.append(record)
    return records


def _resumed(times: int, some_failed: bool = True) -> dict[str, CampaignProbe]:
    return {"spring": CampaignProbe(None, None, times, some_failed)}


def test_counting_restarts_after_a_resume(stack: Stack) -> None:
    organization = f"org-{secrets.token_hex(4)}"
    with contextlib.closing(connect(RedisSettings(url=stack.redis_url))) as client:
        stop = BulkStop(BreakerSettings(campaign_mails=10), client, Waiter())

        def fail(count: int, resumed: int) -> CampaignState | None:
            stop.record_resolved(_ended(organization, count, Reason.REJECTED), _resumed(resumed))
            return campaigns.state(client, organization, "spring")

        stop.record_resolved(_ended(organization, 50, Reason.DUPLICATE), {})  # which are no mails
        assert fail(5, 0) is None
        assert fail(1, 0) is CampaignState.PAUSED
        campaigns.resume(client, organization, "spring")
        assert fail(5, 0) is CampaignState.ACTIVE  # they were under way when it was paused
        assert fail(5, 1) is CampaignState.ACTIVE
        assert fail(1, 1) is CampaignState.PAUSED
        campaigns.cancel(client, organization, "spring")
        assert fail(20, 1) is CampaignState.CANCELLED


def test_successes_beside_failures_count(stack: Stack) -> None:
    organization = f"org-{secrets.token_hex(4)}"
    with contextlib.closing(connect(RedisSettings(url=stack.redis_url))) as client:
        stop = BulkStop(BreakerSettings(campaign_mails=10), client, Waiter())
        for count, reason, some_failed in (
            (5, Reason.REJECTED, False),
            (10, None, True),
            (5, Reason.REJECTED, True),
        ):
            stop.record_resolved(_ended(organization, count, reason), _resumed(0, some_failed))
        assert campaigns.state(client, organization, "spring") is None


def test_workers_count_together(stack: Stack, caplog: pytest.LogCaptureFixture) -> None:
    organization = f"org-{secrets.token_hex(4)}"
    with contextlib.closing(connect(RedisSettings(url=stack.redis_url))) as client:
        workers = [
            BulkStop(BreakerSettings(campaign_mails=100), client, Waiter()) for _ in range(5)
        ]
        for worker in workers:
            assert campaigns.state(client, organization, "spring") is None
            worker.record_resolved(
                _ended(organization, 11, Reason.RENDER_ERROR), _resumed(0, False)
            )
        assert campaigns.state(client, organization, "spring") is CampaignState.PAUSED
        for worker in workers:  # what they had under way
            worker.record_resolved(_ended(organization, 11, Reason.RENDER_ERROR), _resumed(0))
        said = [record for record in caplog.records if record.levelname == "ERROR"]
        assert len(said) == 1


_CHUNK = st.tuples(
    st.integers(0, 30), st.dictionaries(st.sampled_from(["rejected", "render_error"]),
                                        st.integers(1, 9), max_size=2)
)  # fmt: skip


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(_CHUNK, min_size=1, max_size=12), st.integers(10, 60), st.floats(0, 1))
def test_a_failure_share_above_the_limit_is_reported(
    stack: Stack, chunks: list[tuple[int, dict[str, int]]], mails: int, share: float
) -> None:
    campaign = (f"org-{secrets.token_hex(4)}", "spring")
    with contextlib.closing(connect(RedisSettings(url=stack.redis_url))) as client:
        last = LastMails(client, mails, share)
        seen: list[tuple[int, dict[str, int]]] = []
        for number, (fine, failed) in enumerate(chunks):
            ended = fine + sum(failed.values())
            seen.append((ended, failed))
            counted, window = 0, Counter[str]()
            for all_of, alike in reversed(seen):
                window.update(alike)
                counted += all_of
                if counted >= mails:
                    break
            too_many = {reason: n for reason, n in window.items() if n > int(mails * share)}
            for _ in range(2):  # the first reply may be lost
                found = last.ended(str(number), campaign, 0, ended, failed)
                if found is None:
                    assert not too_many
                else:
                    assert too_many[found.reason] == found.failed
        assert client.exists(keys.last_mails(*campaign)) == bool(window)
        assert last.ended("of before it was resumed", campaign, 1, 9, {"rejected": 9}) is None
