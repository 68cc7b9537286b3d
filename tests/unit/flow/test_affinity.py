"""On which core a worker's threads run: together, where there is room, and else on any."""

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from streamer.flow.affinity import Usage, choose_core

_LOOKS = 100
_shares = st.floats(0, 1)


def _chosen(
    shares: dict[int, float], own: float, current: int | None, draw: float = 0.0
) -> int | None:
    """What is chosen after a second with these shares."""
    before = {core: 100.0 + core for core in shares}
    now = {core: before[core] + share for core, share in shares.items()}
    return choose_core(
        Usage(5.0, 1.0, before), Usage(6.0, 1.0 + own, now), current, draw=lambda: draw
    )


@given(st.dictionaries(st.integers(0, 7), _shares, min_size=1), _shares)
def test_the_idlest_core_is_taken_if_there_is_room(shares: dict[int, float], own: float) -> None:
    core = _chosen(shares, own, None, 0.9)
    idle = len(shares) - sum(shares.values())
    if core is None:
        assert idle < 0.25 + 1e-9
    else:
        assert idle > 0.25 - 1e-9
        assert shares[core] <= min(shares.values()) + 1e-9


@given(_shares, _shares, st.floats(0, 0.85))
def test_nobody_leaves_a_core_with_room(own: float, idlest: float, others: float) -> None:
    own = min(own, 0.85 - others)
    assert _chosen({0: own + others, 1: idlest}, own, 0) == 0


@given(_shares, st.data())
def test_nobody_moves_for_little(others: float, data: st.DataObject) -> None:
    idlest = data.draw(st.floats(min(0.89, max(0.0, others - 0.24)), 0.89))
    assert _chosen({0: 1.0, 1: idlest}, 1 - others, 0) == 0


def test_a_crowded_core_is_left_at_every_second_look() -> None:
    shares = {0: 1.0, 1: 0.6, 2: 0.1}
    assert _chosen(shares, 0.5, 0, 0.49) == 2
    assert _chosen(shares, 0.5, 0, 0.5) == 0


@given(st.lists(st.floats(0.91, 1), min_size=2), _shares)
def test_what_is_left_of_full_cores_is_used_on_all_of_them(used: list[float], own: float) -> None:
    assert _chosen(dict(enumerate(used)), own, 1, 0.9) is None


def test_a_core_that_is_gone_is_replaced_and_a_new_one_waits_for_its_second_look() -> None:
    now = Usage(6.0, 1.5, {0: 7.0, 1: 8.0})
    assert choose_core(Usage(5.0, 1.0, {0: 6.5, 1: 7.8}), now, 7, lambda: 0.9) == 1
    assert choose_core(Usage(5.0, 1.0, {0: 6.5}), now, 7, lambda: 0.9) == 0
    assert choose_core(Usage(5.0, 1.0, {}), now, 7, lambda: 0.9) == 7


@given(st.integers(2, 8), st.data(), st.floats(0, 0.2))
def test_busy_workers_find_a_core_each_and_stay(
    cores: int, data: st.DataObject, elsewhere: float
) -> None:
    places: list[int | None] = data.draw(
        st.lists(st.integers(0, cores - 1), min_size=1, max_size=cores - 1)
    )
    draws = random.Random(data.draw(st.integers()))
    for _ in range(_LOOKS):
        on_core = Counter(places)
        shares = {core: 1.0 if on_core[core] else elsewhere for core in range(cores)}
        own = [(1.0 - elsewhere) / on_core[place] for place in places]
        places = [
            _chosen(shares, own[each], place, draws.random()) for each, place in enumerate(places)
        ]
    assert max(Counter(places).values()) == 1
    assert None not in places
