"""What is done with a batch that keeps failing."""

from hypothesis import given
from hypothesis import strategies as st

from streamer.flow.verdicts import Trouble

_SECONDS = st.floats(0, 100_000)


@given(_SECONDS, _SECONDS, st.integers(0, 10), _SECONDS, _SECONDS)
def test_only_what_could_be_set_aside_is_given_up(
    lasting: float, age: float, others: int, set_aside: float, give_up: float
) -> None:
    trouble = Trouble(lasting, age, others)
    if trouble.gives_up(set_aside, give_up):
        assert trouble.sets_aside(set_aside)
        assert age >= give_up


def test_an_old_batch_is_not_given_up_for_two_failures_in_a_row() -> None:
    # It was sent once, then its account was held for hours.
    assert not Trouble(lasting_s=1.0, age_s=8 * 3600, others_taken=5).gives_up(20.0, 3600.0)
    assert Trouble(lasting_s=20.0, age_s=8 * 3600, others_taken=5).gives_up(20.0, 3600.0)
