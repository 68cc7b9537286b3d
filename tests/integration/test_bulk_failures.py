"""A campaign most of whose mails fail stops itself, and no other."""

import contextlib
import secrets

from streamer.ledger import campaigns
from streamer.ledger.connection import connect
from streamer.model.campaign import CampaignState
from streamer.model.reasons import Reason, Status
from streamer.model.record import Coordinates, Outcome, Record
from streamer.settings import Breaker
from streamer.settings import Redis as RedisSettings
from streamer.stack import Stack
from streamer.worker.bulk import BulkStop
from streamer.worker.waiting import Waiting
from tests.kit.operator import Operator
from tests.kit.world import MESSAGE, World, wait_until

_WORKERS_HOLD = 8 * 2 * 100
"""Records that a worker may have under way when it finds out."""


def test_a_campaign_whose_mails_fail_is_paused_before_the_rest_is_spent(world: World) -> None:
    world.settings["STREAMER_BREAKER__CAMPAIGN_MAILS"] = "200"
    operator = Operator.of_world(world)

    def state(name: str) -> CampaignState | None:
        return campaigns.state(world.redis, world.organization, name)

    spring = operator.campaign
    content = ("--from", "a <a@acme.test>", "--subject", "s", "--text", "-")
    operator.run("campaign", "create", spring, *content, stdin=b"Hello {{ First_Name }}")
    world.produce(world.event(n, message=None) for n in range(3_000))
    world.produce(world.event(n, campaign_id="summer") for n in range(100))
    broken = {**MESSAGE, "subject": "{{ nobody }}"}
    world.produce(world.event(n, campaign_id="autumn", message=broken) for n in range(300))
    world.produce(world.event(n, campaign_id="winter", email="nobody") for n in range(300))
    with world.worker() as worker:
        wait_until(lambda: world.words()["sent", None] == 100, 30, "the other one is sent")
        wait_until(lambda: len(world.parked()) + len(world.endings()) == 3_700, 30, "all rest")
        failed = world.words()["failed", "render_error"]
        assert 100 < failed < _WORKERS_HOLD
        assert {state(name) for name in ("spring", "autumn", "winter")} == {CampaignState.PAUSED}
        why = str(operator.answer("campaign", "show", spring)["paused_for"])
        assert "mails at a worker failed as render_error" in why
        assert "First_Name" in why
        assert f"campaign={spring}" in worker.words()
        assert state("summer") is None


def _ended(organization: str, count: int, reason: Reason | None) -> list[Record]:
    records = []
    for offset in range(count):
        record = Record(Coordinates("t", 0, offset), None, None, None, 0.0)
        record.organization_id, record.campaign_id = organization, "spring"
        record.end(Outcome(Status.SENT) if reason is None else Outcome.of(reason, "words"), 1.0)
        records.append(record)
    return records


def test_after_a_resume_it_counts_afresh(stack: Stack) -> None:
    organization = f"org-{secrets.token_hex(4)}"
    with contextlib.closing(connect(RedisSettings(url=stack.redis_url))) as client:
        stop = BulkStop(Breaker(campaign_mails=10), client, Waiting())

        def fail(count: int, resumed: int) -> CampaignState | None:
            stop.ended(_ended(organization, count, Reason.REJECTED), {"spring": resumed})
            return campaigns.state(client, organization, "spring")

        stop.ended(_ended(organization, 50, Reason.DUPLICATE), {})  # which are no mails
        assert fail(5, 0) is None
        assert fail(1, 0) is CampaignState.PAUSED
        campaigns.resume(client, organization, "spring")
        assert fail(5, 0) is CampaignState.ACTIVE  # they were under way when it was paused
        assert fail(5, 1) is CampaignState.ACTIVE
        assert fail(1, 1) is CampaignState.PAUSED
        campaigns.cancel(client, organization, "spring")
        assert fail(20, 1) is CampaignState.CANCELLED
