"""The ticker makes its calls, in turn and again, until it is stopped."""

import threading

import pytest

from streamer.worker import ticker
from streamer.worker.ticker import Ticker

_PATIENCE_S = 10.0


def test_calls_are_made_in_turn_until_it_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ticker, "TICK_S", 0.001)
    made: list[str] = []
    is_enough = threading.Event()

    def second() -> None:
        made.append("second")
        if len(made) >= 6:
            is_enough.set()

    tested = Ticker()
    tested.add(lambda: made.append("first"))
    tested.start()
    tested.add(second)
    assert is_enough.wait(_PATIENCE_S)
    tested.stop()
    made = made[made.index("second") - 1 :]
    assert made == ["first", "second"] * (len(made) // 2)
    assert not any(thread.name == "ticker" for thread in threading.enumerate())
