"""Limits by address and in all."""

from streamer.gateway.limits import RequestLimits


def test_an_address_has_its_own_limit() -> None:
    limits = RequestLimits(1_000.0, 2.0, 0.0)
    assert [limits.take("a", 0.0) for _ in range(6)] == [True] * 4 + [False] * 2
    assert limits.take("b", 0.0)
    assert limits.take("a", 0.5)
    assert not limits.take("a", 0.5)


def test_all_share_a_limit_that_one_alone_does_not_use_up() -> None:
    limits = RequestLimits(5.0, 2.0, 0.0)
    for _ in range(100):
        limits.take("a", 0.0)
    assert [limits.take(f"b{number}", 0.0) for number in range(7)] == [True] * 6 + [False]


def test_a_clock_that_goes_back_gives_nothing() -> None:
    limits = RequestLimits(5.0, 1.0, 10.0)
    assert [limits.take("a", at) for at in (10.0, 9.0, 8.0)] == [True, True, False]
