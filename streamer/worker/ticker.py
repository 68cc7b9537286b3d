"""Short calls that a worker makes all the time, beside its loop."""

import threading
from collections.abc import Callable

TICK_S = 0.5
_END_S = 2.0


class Ticker:
    """Owns the thread `ticker`, which makes its calls twice a second, one after another.

    One that hangs delays the others, so none waits for anything but Redis, for its timeout. An
    exception of a call ends the process, as that of any thread.
    """

    def __init__(self) -> None:
        self._calls: list[Callable[[], None]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ticker", daemon=True)

    def add(self, call: Callable[[], None]) -> None:
        """Make a call from now on. Callable from any thread."""
        self._calls.append(call)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread, after the call that it makes now."""
        self._stop.set()
        self._thread.join(_END_S)

    def _run(self) -> None:
        while not self._stop.wait(TICK_S):
            for call in [*self._calls]:
                call()
