"""Waiting for Redis: what is said, and to whom."""

import logging
import threading
from itertools import count

import pytest
from redis import exceptions

from streamer.worker.waiter import StoppedError, Waiter


def test_it_waits_for_redis_and_logs_why(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    waiter = Waiter()
    seen: list[str | None] = []
    errors = [exceptions.TimeoutError("frozen")] * 3 + [exceptions.ConnectionError("gone")]

    def call() -> str:
        seen.append(waiter.redis_problem)
        if errors:
            raise errors.pop(0)
        return "done"

    assert waiter.retry_redis(call) == "done"
    assert seen[0] is None
    assert all("TimeoutError: frozen" in (trouble or "") for trouble in seen[1:4])
    assert "ConnectionError: gone" in (seen[4] or "")
    assert waiter.redis_problem is None
    said = [(record.levelname, getattr(record, "error", None)) for record in caplog.records]
    assert said == [
        ("WARNING", "TimeoutError: frozen"),
        ("WARNING", "ConnectionError: gone"),
        ("INFO", None),
    ]


def test_threads_waiting_together_log_once(caplog: pytest.LogCaptureFixture) -> None:
    waiter = Waiter()
    all_wait = threading.Barrier(4)

    def wait() -> None:
        calls = count()

        def call() -> None:
            if next(calls) == 1:  # for the second time: the first is noted
                all_wait.wait()
            raise exceptions.ConnectionError("gone")

        with pytest.raises(StoppedError):
            waiter.retry_redis(call)

    threads = [threading.Thread(target=wait) for _ in range(3)]
    for thread in threads:
        thread.start()
    all_wait.wait()
    waiter.stop()
    for thread in threads:
        thread.join()
    assert len([r for r in caplog.records if r.levelname == "WARNING"]) == 1


def test_permanent_errors_are_raised() -> None:
    waiter = Waiter()
    with pytest.raises(exceptions.ResponseError):
        waiter.retry_redis(lambda: _refuse())
    assert waiter.redis_problem is None


def _refuse() -> None:
    raise exceptions.ResponseError("WRONGTYPE")


def test_alternating_reasons_are_logged_once_each(caplog: pytest.LogCaptureFixture) -> None:
    waiter = Waiter()
    calls = iter([exceptions.ConnectionError("gone"), exceptions.TimeoutError("frozen")] * 2)

    def call() -> None:
        error = next(calls, None)
        if error is not None:
            raise error

    waiter.retry_redis(call)
    assert len([r for r in caplog.records if r.levelname == "WARNING"]) == 2
