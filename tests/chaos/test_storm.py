"""A short storm; `make chaos` runs longer ones."""

import pytest

from tests.chaos.storm import Plan, run_storm


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("brokers", "group_protocol"), [(1, "classic"), (3, "consumer")])
def test_a_short_storm_breaks_no_promise(brokers: int, group_protocol: str) -> None:
    plan = Plan(
        recipients=3_000,
        workers=2,
        kills=6,
        zombies=1,
        seed=7,
        pause_s=2.0,
        brokers=brokers,
        group_protocol=group_protocol,
    )
    report = run_storm(plan, print)
    assert report.happened.total() == 18
