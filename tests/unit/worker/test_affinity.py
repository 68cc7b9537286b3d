"""A worker keeps its threads on one CPU, as far as there is room and the kernel allows it."""

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from streamer.worker import affinity
from streamer.worker.affinity import CpuAffinity


def _threads() -> list[int]:
    return [int(thread.name) for thread in Path("/proc/self/task").iterdir()]


@pytest.fixture
def allowed(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[int]]:
    if sys.platform != "linux" or len(cpus := os.sched_getaffinity(0)) < 2:
        pytest.skip("threads are kept on one CPU where Linux has several")
    monkeypatch.setattr(affinity, "_LOOK_EVERY_S", 0.0)
    yield cpus
    for thread in _threads():
        with suppress(ProcessLookupError):  # it has ended
            os.sched_setaffinity(thread, cpus)


def _compute(seconds: float = 0.05) -> None:
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


def test_all_threads_are_kept_on_one_cpu(
    allowed: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    cpus = dict.fromkeys(allowed, 0.0)
    monkeypatch.setattr(affinity, "_used", lambda of: {cpu: cpus[cpu] for cpu in of})
    computed = [1.0]
    monkeypatch.setattr(time, "process_time", lambda: computed[-1])
    end = threading.Event()
    threading.Thread(target=end.wait, daemon=True).start()
    tested = CpuAffinity()
    tested.look()
    (cpu,) = os.sched_getaffinity(0)
    assert cpu in allowed
    threading.Thread(target=end.wait, daemon=True).start()
    assert [os.sched_getaffinity(thread) for thread in _threads()] == [{cpu}] * len(_threads())

    cpus |= dict.fromkeys(allowed, 1e9)  # none has room left
    computed.append(1e9)
    tested.look()
    assert [os.sched_getaffinity(thread) for thread in _threads()] == [allowed] * len(_threads())

    tested.look()  # since then nothing was used
    assert len(os.sched_getaffinity(0)) == 1
    end.set()


def test_once_it_has_its_cpu_an_idle_worker_does_not_look(
    allowed: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[set[int]] = []

    def used(of: set[int]) -> dict[int, float]:
        looks.append(of)
        return dict.fromkeys(of, 0.0)

    monkeypatch.setattr(affinity, "_used", used)
    monkeypatch.setattr(time, "process_time", lambda: 7.0)
    tested = CpuAffinity()
    for _ in range(5):
        tested.look()
    assert looks == [allowed, allowed]  # the first when it starts


def test_a_worker_that_may_use_one_cpu_is_left_there(allowed: set[int]) -> None:
    os.sched_setaffinity(0, {min(allowed)})
    tested = CpuAffinity()
    os.sched_setaffinity(0, allowed)
    for _ in range(2):
        _compute()
        tested.look()
    assert os.sched_getaffinity(0) == allowed


def test_a_worker_whose_container_numbers_cpus_anew_is_left_where_it_is(
    allowed: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(affinity, "_used", lambda of: {cpu: 0.0 for cpu in of if cpu != min(of)})
    monkeypatch.setattr(time, "process_time", lambda: 7.0)
    tested = CpuAffinity()
    for _ in range(3):
        tested.look()
    assert os.sched_getaffinity(0) == allowed


@pytest.mark.parametrize("closed", ["_STAT", "_THREADS"])
def test_what_cannot_be_read_or_done_is_left(
    allowed: set[int], monkeypatch: pytest.MonkeyPatch, closed: str
) -> None:
    monkeypatch.setattr(affinity, closed, Path("/nowhere"))
    tested = CpuAffinity()
    for _ in range(3):
        _compute()
        tested.look()
    assert os.sched_getaffinity(0) == allowed


def test_what_is_used_of_a_cpu_is_told_in_seconds(allowed: set[int]) -> None:
    cpu = max(allowed)
    os.sched_setaffinity(0, {cpu})
    before = affinity._used(allowed)
    _compute(0.4)
    now = affinity._used(allowed)
    assert now.keys() == allowed
    assert now[cpu] - before[cpu] > 0.3


def test_threads_of_a_core_are_told_from_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for cpu, siblings in enumerate(["0,2\n", "1,3\n", "0,2\n"]):
        folder = tmp_path / f"cpu{cpu}" / "topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(siblings, encoding="ascii")
    monkeypatch.setattr(affinity, "_CPUS", tmp_path)
    cores = [affinity._core(cpu) for cpu in range(5)]
    assert cores[0] == cores[2]
    assert len({*cores}) == 4  # one that says nothing is alone
