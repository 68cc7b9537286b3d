"""On which CPU a worker's threads run: together, where there is room, and else on any."""

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from streamer.flow.affinity import Usage, choose_cpu

_LOOKS = 100


def _hundredths(least: int, most: int) -> st.SearchStrategy[float]:
    return st.integers(least, most).map(lambda number: number / 100)


_shares = _hundredths(0, 100)


def _chosen(
    shares: dict[int, float],
    own: float,
    current: int | None,
    draw: float = 0.0,
    per_core: int = 1,
) -> int | None:
    """What is chosen after a second with these shares."""
    before = {cpu: 100.0 + cpu for cpu in shares}
    now = {cpu: before[cpu] + share for cpu, share in shares.items()}
    cores = {cpu: str(cpu // per_core) for cpu in shares}
    usage = Usage(5.0, 1.0, before), Usage(6.0, 1.0 + own, now)
    return choose_cpu(*usage, current, cores, lambda: draw)


@given(st.dictionaries(st.integers(0, 7), _shares, min_size=1), _shares)
def test_the_idlest_cpu_is_taken_if_there_is_room(shares: dict[int, float], own: float) -> None:
    cpu = _chosen(shares, min(own, sum(shares.values())), None, 0.9)
    idle = len(shares) - sum(shares.values())
    if cpu is None:
        assert idle < 0.25 + 1e-9
    else:
        assert idle > 0.25 - 1e-9
        assert shares[cpu] <= min(shares.values()) + 1e-9


@given(_shares, _shares, _hundredths(0, 85))
def test_nobody_leaves_a_cpu_with_room(own: float, idlest: float, others: float) -> None:
    own = min(own, 0.85 - others)
    assert _chosen({0: own + others, 1: idlest}, own, 0) == 0


@given(_shares, st.data())
def test_nobody_moves_for_little(others: float, data: st.DataObject) -> None:
    idlest = data.draw(_hundredths(min(89, max(0, round(others * 100) - 24)), 89))
    assert _chosen({0: 1.0, 1: idlest}, 1 - others, 0) == 0


def test_a_crowded_cpu_is_left_at_every_second_look() -> None:
    shares = {0: 1.0, 1: 0.6, 2: 0.1}
    assert _chosen(shares, 0.5, 0, 0.49) == 2
    assert _chosen(shares, 0.5, 0, 0.5) == 0


@given(st.lists(_hundredths(91, 100), min_size=2), _shares)
def test_what_is_left_of_full_cpus_is_used_on_all_of_them(used: list[float], own: float) -> None:
    assert _chosen(dict(enumerate(used)), own, 1, 0.9) is None


def test_a_cpu_that_is_gone_is_replaced_and_a_new_one_waits_for_its_second_look() -> None:
    now, cores = Usage(6.0, 1.5, {0: 7.0, 1: 8.0}), {0: "0", 1: "1"}
    for before, chosen in (({0: 6.5, 1: 7.8}, 1), ({0: 6.5}, 0), ({}, 7)):
        assert choose_cpu(Usage(5.0, 1.0, before), now, 7, cores, lambda: 0.9) == chosen


def test_figures_that_cannot_be_true_are_not_believed() -> None:
    """Some sandboxes show the CPUs as idle, whatever they do."""
    for current in (None, 1):
        assert _chosen({0: 0.0, 1: 0.0}, 0.9, current) is None
    assert _chosen({0: 0.0, 1: 0.5}, 0.9, None) == 0  # they are counted in ticks


def test_a_cpu_is_taken_whose_core_is_idle_as_a_whole() -> None:
    shares = {0: 1.0, 1: 0.0, 2: 0.2, 3: 0.1}
    assert _chosen(shares, 1.0, None, per_core=2) == 3
    assert _chosen(shares, 0.5, 0, per_core=2) == 3
    assert _chosen(shares, 1.0, None) == 1


@given(st.integers(2, 8), st.data(), _hundredths(0, 20))
def test_busy_workers_find_a_cpu_each_and_stay(
    cpus: int, data: st.DataObject, elsewhere: float
) -> None:
    places: list[int | None] = data.draw(
        st.lists(st.integers(0, cpus - 1), min_size=1, max_size=cpus - 1)
    )
    draws = random.Random(data.draw(st.integers()))
    for _ in range(_LOOKS):
        on_cpu = Counter(places)
        shares = {cpu: 1.0 if on_cpu[cpu] else elsewhere for cpu in range(cpus)}
        own = [(1.0 - elsewhere) / on_cpu[place] for place in places]
        places = [
            _chosen(shares, own[each], place, draws.random()) for each, place in enumerate(places)
        ]
    assert max(Counter(places).values()) == 1
    assert None not in places
