"""A short storm; `make chaos` runs longer ones."""

import pytest

from tests.chaos.storm import Plan, run_storm


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_short_storm_breaks_no_promise() -> None:
    report = run_storm(
        Plan(recipients=3_000, workers=2, kills=6, zombies=1, seed=7, pause_s=2.0), print
    )
    assert report.happened.total() == 18
