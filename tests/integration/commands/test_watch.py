"""`watch` without a terminal."""

from tests.kit.harness import wait_until
from tests.kit.office import Office
from tests.kit.operator import CommandRunner


def test_watch_ends_when_the_campaign_is_complete(office: Office, operator: CommandRunner) -> None:
    assert "is not defined" in operator.run("watch", operator.campaign, code=1).stderr
    harness = office.harness
    with harness.worker(), office.projecting():
        harness.produce([harness.event(n) for n in range(50)])
        wait_until(lambda: office.ended() == 50, 60, "all are counted")
        operator.run("campaign", "close", operator.campaign)
        office.progress("--wait", "--timeout", "30")
        (line,) = operator.run("watch", operator.campaign).stdout.splitlines()
        assert line.startswith(f"{operator.campaign}: 50 of 50, sent 50")
        assert line.endswith("completed")


def test_watch_ends_when_the_campaign_is_cancelled(office: Office, operator: CommandRunner) -> None:
    office.write({"sent": 2})
    office.harness.produce([office.harness.event(1)])
    with office.projecting():
        wait_until(lambda: office.ended() == 2, 30, "they are counted")
        operator.run("campaign", "cancel", operator.campaign, "--yes")
        result = operator.run("watch", operator.campaign, code=1)
        # Otherwise nothing would tell why it may wait for ever.
        assert "the campaign is not closed, so it cannot complete" in result.stderr
        assert "no worker is running" in result.stderr
        assert result.stdout.splitlines()[-1].endswith("cancelled")
