"""The rate window and the quotas, with time as an argument."""

from hypothesis import given
from hypothesis import strategies as st

from streamer.sandbox import AccountSpec
from streamer.sandbox.accounts import SandboxAccount, Window

DAY_S = 86_400.0
NEW_YEARS_EVE = 1_798_675_200.0  # 2026-12-31T00:00:00Z


def test_a_full_window_returns_the_retry_time() -> None:
    window = Window()
    readings = [window.take(2, 100.0 + at) for at in (0.0, 0.1, 0.2, 0.999)]
    assert [r.granted for r in readings] == [True, True, False, False]
    assert [r.remaining for r in readings] == [1, 0, 0, 0]
    assert {r.limit for r in readings} == {2}
    assert {r.reset_s for r in readings} == {1}
    assert window.take(2, 101.0).granted


@given(st.lists(st.floats(0, 2, allow_nan=False), min_size=1, max_size=60), st.integers(1, 5))
def test_no_window_grants_more_than_its_limit(pauses: list[float], limit: int) -> None:
    window, now, opened, granted = Window(), 50.0, None, 0
    for pause in pauses:
        now += pause
        if opened is None or now - opened >= 1.0:
            opened, granted = now, 0
        reading = window.take(limit, now)
        granted += reading.granted
        assert granted <= limit
        assert reading.remaining == limit - granted


def test_a_changed_limit_applies_within_the_window() -> None:
    window = Window()
    assert window.take(1, 1.0).granted
    assert not window.take(1, 1.1).granted
    assert window.take(3, 1.2).remaining == 1


def test_quotas_reset_with_the_utc_day_and_month() -> None:
    account = SandboxAccount(AccountSpec(name="a", keys=("re_a",)))
    account.use(3, NEW_YEARS_EVE - DAY_S)
    account.use(4, NEW_YEARS_EVE + DAY_S - 1)
    assert account.used(NEW_YEARS_EVE + DAY_S - 1) == (4, 7)
    assert account.used(NEW_YEARS_EVE + DAY_S) == (0, 0)
