"""`campaign drop`: deleting a finished campaign."""

from typing import cast

from streamer.ledger import keys
from streamer.progress.fold import CampaignKey
from tests.kit.office import Office
from tests.kit.operator import Operator
from tests.kit.world import wait_until


def test_only_a_finished_campaign_is_dropped(office: Office, operator: Operator) -> None:
    world, client = office.world, office.client
    operator.define()
    operator.run(
        "campaign", "drop", operator.campaign, code=2
    )  # no terminal to ask for confirmation
    with world.worker(), office.projecting():
        world.produce([world.event(n) for n in range(20)])
        wait_until(lambda: office.ended() == 20, 30, "all are counted")
        operator.run("campaign", "pause", operator.campaign)
        world.produce([world.event(n) for n in range(20, 30)])
        wait_until(lambda: office.parked()[1] == 10, 30, "some are parked")
        refused = operator.run("campaign", "drop", operator.campaign, "--yes", code=1)
        assert "10 are parked" in refused.stderr
        operator.run("campaign", "cancel", operator.campaign)
        wait_until(lambda: office.ended() == 30, 30, "the others are resolved")
        wait_until(lambda: office.parked() == (30, 0, 0), 30, "none are parked")
        wait_until(lambda: not office.store.due(), 30, "completion was checked")
        operator.run("campaign", "drop", operator.campaign, "--yes")
        operator.run("campaign", "drop", operator.campaign, "--yes", code=1)
        found = cast(list[bytes], client.keys(f"{{{world.organization}}}:*"))
        left = {key.decode() for key in found if b":batch:" not in key}
        assert left == {keys.organization_epoch(world.organization)}
        assert not client.sismember(keys.ORGANIZATIONS, world.organization)
        assert not client.exists(keys.progress_organizations(world.name))
        # The projector still picks up the organization again, with a new campaign.
        world.produce([world.event(1)])
        wait_until(lambda: office.ended() == 1, 30, "it is counted")
        assert CampaignKey(world.organization, "spring") in office.store.campaigns()
    assert world.words() == {("sent", None): 21, ("skipped", "cancelled"): 10}
