"""`campaign drop`: deleting a finished campaign."""

from typing import cast

import pytest

from streamer.ledger import keys
from streamer.model.campaign import CampaignName
from tests.kit.harness import wait_until
from tests.kit.office import Office
from tests.kit.operator import CommandRunner


def test_only_a_finished_campaign_is_dropped(
    office: Office, operator: CommandRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness, client = office.harness, office.client
    operator.define()
    operator.run(
        "campaign", "drop", operator.campaign, code=2
    )  # no terminal to ask for confirmation
    harness.produce([harness.event(n) for n in range(20)])
    monkeypatch.setattr("streamer.cli.drop._COUNTED_WITHIN_S", 0.0)
    refused = operator.run("campaign", "drop", operator.campaign, "--yes", code=1)
    assert "the workers have not passed all" in refused.stderr  # nor has any begun
    monkeypatch.undo()
    with harness.worker(), office.projecting():
        wait_until(lambda: office.ended() == 20, 30, "all are counted")
        operator.run("campaign", "pause", operator.campaign)
        harness.produce([harness.event(n) for n in range(20, 30)])
        wait_until(lambda: office.parked()[1] == 10, 30, "some are parked")
        refused = operator.run("campaign", "drop", operator.campaign, "--yes", code=1)
        assert "10 recipients parked" in refused.stderr
        operator.run("campaign", "cancel", operator.campaign, "--yes")
        wait_until(lambda: office.ended() == 30, 30, "the others are resolved")
        wait_until(lambda: office.parked() == (30, 0), 30, "none are parked")
        wait_until(lambda: not office.store.due(), 30, "completion was checked")
        operator.run("campaign", "drop", operator.campaign, "--yes")
        operator.run("campaign", "drop", operator.campaign, "--yes", code=1)
        found = cast(list[bytes], client.keys(f"{{{harness.organization}}}:*"))
        left = {key.decode() for key in found if b":result:" not in key}
        epoch = keys.organization_epoch(harness.organization)
        assert left == {epoch, keys.slot_pulse(epoch, harness.name)}
        assert not client.sismember(keys.ORGANIZATIONS, harness.organization)
        assert not client.exists(keys.progress_organizations(harness.name))
        # The projector still picks up the organization again, with a new campaign.
        harness.produce([harness.event(1)])
        wait_until(lambda: office.ended() == 1, 30, "it is counted")
        assert CampaignName(harness.organization, "spring") in office.store.campaigns()
    assert harness.status_counts() == {("sent", None): 21, ("skipped", "cancelled"): 10}
