"""The breaker against its definition: more than a share of the last records."""

from hypothesis import given
from hypothesis import strategies as st

from streamer.flow.breaker import DeadLetterBreaker

_records = st.lists(st.booleans(), max_size=60)


@given(st.integers(1, 20), st.floats(0, 1), st.lists(_records, max_size=6))
def test_it_trips_above_the_dead_letter_share(
    size: int, share: float, chunks: list[list[bool]]
) -> None:
    breaker = DeadLetterBreaker(size, share)
    seen: list[bool] = []
    for chunk in chunks:
        expected = any(
            sum((seen + chunk[: end + 1])[-size:]) > size * share for end in range(len(chunk))
        )
        assert breaker.trips(chunk) == expected
        assert breaker.trips(chunk) == expected  # asking changes nothing
        breaker.remember(chunk)
        seen += chunk
        assert breaker.dead == sum(seen[-size:])


def test_a_few_dead_letters_at_the_start_do_not_trip_it() -> None:
    breaker = DeadLetterBreaker(1000, 0.5)
    assert not breaker.trips([True] * 500)
    assert breaker.trips([True] * 501)
