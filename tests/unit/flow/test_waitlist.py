"""Where those stand who wait for the same."""

from collections import Counter
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from streamer.flow.waitlist import SEEK, SPAN, Waitlist
from streamer.model.parking import Scope
from streamer.model.record import Parked

A, B, C = (Parked(Scope.of_campaign("acme", name)) for name in "abc")

placed = st.lists(
    st.tuples(st.sampled_from([A, B, C]), st.integers(0, 1), st.integers(1, SPAN)), max_size=60
)


@given(placed, st.sets(st.sampled_from([A, B, C]), min_size=1), st.integers(1, 5_000))
def test_records_are_taken_once_and_in_order(
    given_: list[tuple[Parked, int, int]], free: set[Parked], most: int
) -> None:
    waitlist, ends = Waitlist(), {0: 0, 1: 0}
    stand: dict[tuple[int, int], Parked] = {}
    for wait, partition, distance in given_:
        ends[partition] += distance
        stand[partition, ends[partition]] = wait
        waitlist.note(wait, partition, ends[partition])
    found: list[tuple[Parked, int, int]] = []
    while free & set(waitlist.waits):
        taken = waitlist.take(free, most)
        assert taken.spans
        for partition, spans in taken.spans.items():
            assert all(a.end + SEEK < b.start for a, b in pairwise(spans))
            for start, end in spans:
                for offset in range(start, end):
                    at = stand.get((partition, offset))
                    if at and offset < taken.limits.get((at, partition), 0):
                        found.append((at, partition, offset))
    # Read again may be who was between others: it is known then that it left.
    counted = Counter(found)
    assert counted.keys() == {(w, p, o) for (p, o), w in stand.items() if w in free}
    for wait in free:
        for partition in (0, 1):
            order = [o for w, p, o in dict.fromkeys(found) if (w, p) == (wait, partition)]
            assert order == sorted(order)


def test_a_small_wait_is_not_delayed_by_a_large_one() -> None:
    waitlist = Waitlist()
    for offset in range(100_000):
        waitlist.note(A, 0, offset)
    waitlist.note(B, 0, 100_000)
    first = waitlist.take({A, B}, 4_000)
    assert first.limits[B, 0] == 100_001
    assert first.limits[A, 0] < 5_000
    assert set(waitlist.waits) == {A}


def test_waits_take_turns() -> None:
    waitlist = Waitlist()
    for partition, wait in enumerate((A, B, C)):
        for offset in range(5_000):
            waitlist.note(wait, partition, offset)
    turns = [next(iter(waitlist.take({A, B, C}, 1).limits))[0] for _ in range(6)]
    assert turns == [A, B, C, A, B, C]
