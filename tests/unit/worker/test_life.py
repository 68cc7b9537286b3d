"""The states of a worker: which one it is in, and what is said of it."""

import logging
import threading

import pytest
from prometheus_client import REGISTRY
from redis import exceptions

from streamer.worker.life import Life, WorkerState
from streamer.worker.waiter import Waiter


def _shown() -> list[str]:
    return [
        state
        for state in WorkerState
        if REGISTRY.get_sample_value("streamer_worker_state", {"state": state.value})
    ]


def test_each_change_is_shown_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    life = Life(Waiter())
    assert _shown() == [life.state] == ["starting"]
    for state in (WorkerState.RUNNING, WorkerState.DRAINING, WorkerState.STOPPED):
        life.enter(state)
        life.enter(state)
        assert _shown() == [life.state] == [state]
    assert [getattr(record, "state", None) for record in caplog.records] == [
        "starting",
        "running",
        "draining",
        "stopped",
    ]
    assert {record.levelname for record in caplog.records} == {"INFO"}


@pytest.mark.parametrize("before", [WorkerState.STARTING, WorkerState.RUNNING])
def test_waiting_for_redis_returns_to_the_earlier_state(before: WorkerState) -> None:
    waiter = Waiter()
    life = Life(waiter)
    life.enter(before)
    seen = []

    def call() -> None:
        seen.append(life.state)
        if len(seen) < 3:
            raise exceptions.ConnectionError("gone")

    waiter.retry_redis(call)
    assert seen == [before, WorkerState.WAITING_FOR_REDIS, WorkerState.WAITING_FOR_REDIS]
    assert _shown() == [life.state] == [before]


def test_it_waits_while_any_thread_waits() -> None:
    waiter = Waiter()
    life = Life(waiter)
    both_failed, first_goes_on, second_goes_on = threading.Barrier(3), *_events(2)

    def wait(goes_on: threading.Event) -> None:
        tries = []

        def call() -> None:
            tries.append(1)
            if len(tries) == 1:
                raise exceptions.ConnectionError("gone")
            both_failed.wait()
            goes_on.wait()

        waiter.retry_redis(call)

    first = threading.Thread(target=wait, args=(first_goes_on,))
    second = threading.Thread(target=wait, args=(second_goes_on,))
    first.start()
    second.start()
    both_failed.wait()
    first_goes_on.set()
    first.join()
    assert life.state == "waiting_for_redis"
    second_goes_on.set()
    second.join()
    assert str(life.state) == "starting"


def test_a_waiting_worker_can_change_state() -> None:
    waiter = Waiter()
    life = Life(waiter)
    seen = []

    def call() -> None:
        seen.append(life.state)
        if len(seen) == 2:
            life.enter(WorkerState.RUNNING)
            assert life.state is WorkerState.WAITING_FOR_REDIS
            life.enter(WorkerState.DRAINING)
        if len(seen) < 3:
            raise exceptions.ConnectionError("gone")

    waiter.retry_redis(call)
    assert seen[2] is life.state is WorkerState.DRAINING


def _events(count: int) -> list[threading.Event]:
    return [threading.Event() for _ in range(count)]
