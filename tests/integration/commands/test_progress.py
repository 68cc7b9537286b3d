"""`progress`: showing a campaign's progress."""

from pathlib import Path

from tests.kit.harness import Harness, wait_until
from tests.kit.office import Office
from tests.kit.operator import CommandRunner


def test_a_completed_campaign_has_one_summary(
    office: Office, operator: CommandRunner, tmp_path: Path
) -> None:
    harness = office.harness
    operator.define()
    file = tmp_path / "r.csv"
    file.write_text("email\n" + "".join(f"user{n}@example.com\n" for n in range(300)))
    with harness.worker(STREAMER_PROGRESS__EMBEDDED="false"), office.projecting():
        office.progress("--wait", "--timeout", "0", code=1)
        operator.run("produce", operator.campaign, file)
        operator.run("produce", operator.campaign, file, "--done")
        done = office.progress("--wait", "--timeout", "60")
        assert (done["state"], done["expected"], done["received"]) == ("completed", 300, 600)
        assert (done["sent"], done["reasons"]) == (300, {"duplicate": 300})
        assert done["finished_at"] is not None
        wait_until(office.summaries, 30, "the summary is published")

        late = harness.event(1, email="late@example.com", message=None)
        harness.produce([{k: v for k, v in late.items() if v is not None}])
        wait_until(lambda: len(office.summaries()) > 1, 30, "a late record corrects the summary")
        wait_until(lambda: not office.store.due(), 30, "completion was checked")
    # Counting again gives the same summary, which is not published twice.
    office.store.open(anew=True)
    with office.projecting():
        wait_until(
            lambda: (r := office.report()) and r.counts.outcomes == 601, 30, "all are counted"
        )
        wait_until(lambda: not office.store.due(), 30, "completion was checked")
    first, second = office.summaries()
    assert (first["expected"], first["total"]) == (300, 600)
    assert (first["sent"], first["skipped"]) == (300, 300)
    assert (second["total"], second["sent"]) == (601, 301)
    assert operator.run("progress", operator.campaign).stdout.count("601") == 1


def test_progress_errors_are_reported(operator: CommandRunner, harness: Harness) -> None:
    operator.run("progress", operator.campaign, "--timeout", "3", code=2)
    assert "is not defined" in operator.run("progress", operator.campaign, code=1).stderr
