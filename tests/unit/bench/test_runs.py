"""Choosing among several runs."""

from bench.runs import OutcomeSummary, Result, middle


def _result(cpu_s: float, *, adds_up: bool = True) -> Result:
    return Result(
        name="x",
        recipients=100,
        emails=100,
        measured=100,
        cpu_s=cpu_s,
        wall_s=1.0,
        peak_rss_bytes=1,
        redis_bytes=1.0,
        calls=1,
        fill=100.0,
        steps={},
        ending=OutcomeSummary({}, 0, 0),
        adds_up=adds_up,
    )


def test_the_median_run_is_chosen() -> None:
    assert middle([_result(3.0), _result(1.0), _result(2.0)]).cpu_s == 2.0
    assert middle([_result(4.0)]).cpu_s == 4.0


def test_a_run_that_does_not_add_up_is_chosen() -> None:
    assert not middle([_result(1.0), _result(3.0, adds_up=False), _result(2.0)]).adds_up
