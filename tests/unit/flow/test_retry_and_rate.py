"""How long to wait, and how fast to go."""

from hypothesis import given
from hypothesis import strategies as st

from streamer.flow.rate import UNKNOWN_RATE, allowed_rate
from streamer.flow.retry import Backoff


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True), st.floats(0, 100))
def test_a_wait_is_bounded_and_honours_retry_after(
    failures: int, draw: float, asked: float
) -> None:
    delay = Backoff(base_s=0.5, cap_s=30.0).delay(failures, lambda: draw, asked)
    assert asked <= delay <= asked + 30.0


@given(st.integers(1, 30))
def test_the_backoff_ceiling_grows(failures: int) -> None:
    backoff = Backoff(base_s=0.5, cap_s=30.0)
    assert backoff.delay(failures, lambda: 0.999) <= backoff.delay(failures + 1, lambda: 0.999)


@given(st.floats(0, 1000), st.one_of(st.none(), st.floats(1, 1000)))
def test_a_rate_is_positive_and_within_both_limits(
    ceiling: float, advertised: float | None
) -> None:
    rate = allowed_rate(ceiling, advertised)
    assert rate > 0
    if ceiling:
        assert rate <= ceiling
    if advertised is not None:
        assert rate <= advertised
    if not ceiling and advertised is None:
        assert rate == UNKNOWN_RATE
