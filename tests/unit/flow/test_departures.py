"""Which records have left: with the gaps before them, and known before they are committed."""

from hypothesis import given
from hypothesis import strategies as st

from streamer.flow.departures import Departures
from streamer.flow.offsets import OffsetSet, OffsetSpan


def test_a_gap_leaves_with_the_record_behind_it() -> None:
    departures = Departures()
    departures.add_partitions({0: OffsetSet()})
    departures.note_gap(0, 1, 3)
    gone = departures.after([(0, 0), (0, 3)])
    assert gone == {0: OffsetSet(4)}
    assert (0, 3) not in departures
    departures.commit(gone)
    assert (0, 3) in departures
    assert departures.base_of(0) == 4
    assert departures.gaps_of(0).spans == []


def test_a_skipped_record_leaves_with_the_next_commit() -> None:
    departures = Departures()
    departures.add_partitions({0: OffsetSet(), 1: OffsetSet()})
    departures.skip((0, 0))
    assert (0, 0) in departures
    assert departures.after([(0, 1)]) == {0: OffsetSet(2)}
    assert departures.known() == {0: OffsetSet(1)}
    assert departures.bases() == {0: 1, 1: 0}


def test_waste_is_measured_against_what_stays() -> None:
    departures = Departures()
    departures.add_partitions({0: OffsetSet(0, [OffsetSpan(10, 40)])})
    assert not departures.is_wasteful(0, 44, 30)  # no more than is allowed in any case
    assert not departures.is_wasteful(0, 54, 5)  # 30 of 54 have left
    assert departures.is_wasteful(0, 44, 5)
    assert departures.crowded_after([(0, 5)], 1) == [0]
    assert departures.crowded_after([(0, 5)], 1_000) == []


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 40)), max_size=60), st.integers(1, 5))
def test_exactly_the_committed_departures_have_left(
    places: list[tuple[int, int]], chunk: int
) -> None:
    departures = Departures()
    departures.add_partitions({0: OffsetSet(), 1: OffsetSet()})
    for at in range(0, len(places), chunk):
        departures.commit(departures.after(places[at : at + chunk]))
    left = {(p, offset) for p in (0, 1) for offset in range(50) if (p, offset) in departures}
    assert left == {*places}
