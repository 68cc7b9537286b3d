"""`campaign close`: setting how many recipients a campaign has."""

from streamer.ledger import keys
from streamer.model.campaign import CampaignName
from tests.kit.harness import wait_until
from tests.kit.office import Office
from tests.kit.operator import CommandRunner


def test_closing_a_campaign_completes_it(office: Office, operator: CommandRunner) -> None:
    harness = office.harness
    operator.run("campaign", "close", operator.campaign, code=1)
    with harness.worker(STREAMER_PROGRESS__EMBEDDED="false"), office.projecting():
        harness.produce([harness.event(n) for n in range(50)])
        wait_until(lambda: office.ended() == 50, 60, "all are counted")
        assert office.progress()["state"] == "active"
        key = keys.campaign(harness.organization, "spring")
        office.client.hset(key, "state", "paused")
        operator.run("campaign", "close", operator.campaign)
        wait_until(lambda: is_judged_again(office), 30, "completion was checked while paused")
        assert office.progress()["state"] == "paused"
        assert office.summaries() == []
        office.client.hset(key, "state", "active")  # resumed
        done = office.progress("--wait", "--timeout", "30")
        assert (done["state"], done["closed"], done["sent"]) == ("completed", True, 50)
        assert done["expected"] is None
        operator.run("campaign", "pause", operator.campaign)
        assert office.progress()["state"] == "paused"
        operator.run("campaign", "resume", operator.campaign)
        assert office.progress("--wait", "--timeout", "30")["state"] == "completed"


def is_judged_again(office: Office) -> bool:
    """Whether everything due so far was checked: another campaign, added now, is settled."""
    other = CampaignName(office.harness.organization, "other")
    office.store.expect(other, 1)
    wait_until(lambda: other not in {due.name for due in office.store.due()}, 30, "it is settled")
    return True
