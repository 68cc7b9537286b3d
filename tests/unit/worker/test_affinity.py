"""A worker keeps its threads on one core, as far as there is room and the kernel allows it."""

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from streamer.worker import affinity
from streamer.worker.affinity import CoreAffinity

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or len(os.sched_getaffinity(0)) < 2, reason="not several cores"
)


def _threads() -> list[int]:
    return [int(thread.name) for thread in Path("/proc/self/task").iterdir()]


@pytest.fixture
def allowed(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[int]]:
    monkeypatch.setattr(affinity, "_LOOK_EVERY_S", 0.0)
    cores = os.sched_getaffinity(0)
    yield cores
    for thread in _threads():
        with suppress(ProcessLookupError):  # it has ended
            os.sched_setaffinity(thread, cores)


def _compute(seconds: float = 0.05) -> None:
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


def test_all_threads_are_kept_on_one_core(
    allowed: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    cores = dict.fromkeys(allowed, 0.0)
    monkeypatch.setattr(affinity, "_used", lambda of: {core: cores[core] for core in of})
    end = threading.Event()
    threading.Thread(target=end.wait, daemon=True).start()
    tested = CoreAffinity()
    tested.look()
    (core,) = os.sched_getaffinity(0)
    assert core in allowed
    threading.Thread(target=end.wait, daemon=True).start()
    assert [os.sched_getaffinity(thread) for thread in _threads()] == [{core}] * len(_threads())

    cores |= dict.fromkeys(allowed, 1e9)  # none has room left
    _compute()
    tested.look()
    assert [os.sched_getaffinity(thread) for thread in _threads()] == [allowed] * len(_threads())
    end.set()


def test_once_it_has_its_core_an_idle_worker_does_not_look(
    allowed: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[set[int]] = []

    def used(of: set[int]) -> dict[int, float]:
        looks.append(of)
        return dict.fromkeys(of, 0.0)

    monkeypatch.setattr(affinity, "_used", used)
    monkeypatch.setattr(time, "process_time", lambda: 7.0)
    tested = CoreAffinity()
    for _ in range(5):
        tested.look()
    assert looks == [allowed, allowed]  # the first when it starts


def test_a_worker_that_may_use_one_core_is_left_there(allowed: set[int]) -> None:
    os.sched_setaffinity(0, {min(allowed)})
    tested = CoreAffinity()
    os.sched_setaffinity(0, allowed)
    for _ in range(2):
        _compute()
        tested.look()
    assert os.sched_getaffinity(0) == allowed


def test_what_cannot_be_read_or_done_is_left(
    allowed: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(affinity, "_THREADS", Path("/nowhere"))
    tested = CoreAffinity()
    for _ in range(3):
        _compute()
        tested.look()
    assert os.sched_getaffinity(0) == allowed


def test_what_is_used_of_a_core_is_told_in_seconds(allowed: set[int]) -> None:
    core = max(allowed)
    os.sched_setaffinity(0, {core})
    before = affinity._used(allowed)
    _compute(0.4)
    now = affinity._used(allowed)
    assert now.keys() == allowed
    assert now[core] - before[core] > 0.3
