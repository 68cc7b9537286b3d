"""Counting the calls made by workers."""

import pytest

from bench.limiter import use_of
from bench.measured import BenchError
from streamer.sandbox import Call


def _call(arrived: float, status: int = 200, mails: int = 100) -> Call:
    return Call("default", arrived, 0.0, status, "", mails if status == 200 else 0, "key")


def test_only_whole_seconds_are_counted() -> None:
    use = use_of([_call(7 + number / 10) for number in range(35)], 2, 30)
    assert (use.workers, use.seconds, use.calls, use.mails) == (2, 3, 30, 3000)
    assert (use.share, use.throttled_share, use.fill) == (1.0, 0.0, 1.0)
    assert use.missed == []


def test_the_counted_seconds_are_limited() -> None:
    assert use_of([_call(number / 10) for number in range(100)], 1, 4).calls == 40


def test_each_missed_bar_is_named() -> None:
    calls = [_call(number / 10) for number in range(31)]
    assert use_of(calls[:20] + calls[21:], 1, 3).missed == ["share"]
    assert use_of([*calls, _call(0.05, 429)], 1, 3).missed == ["429"]
    assert use_of([calls[0]._replace(mails=50), *calls[1:]], 1, 3).missed == ["fill"]


@pytest.mark.parametrize("calls", [[], [_call(1.0)], [_call(1.0), _call(1.9)]])
def test_less_than_a_second_is_an_error(calls: list[Call]) -> None:
    with pytest.raises(BenchError, match="too little to measure"):
        use_of(calls, 1, 10)
