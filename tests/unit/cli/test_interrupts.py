"""Signals take effect where that is safe."""

import os
import signal
from collections.abc import Iterator

import pytest

from streamer.cli.interrupts import Interrupts


def _send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_read(number: int) -> None:
    before = signal.getsignal(number)

    def rows() -> Iterator[int]:
        yield 1
        _send(number)
        yield 2

    with Interrupts() as interrupts:
        taken: list[int] = []
        with pytest.raises(KeyboardInterrupt):
            taken.extend(interrupts.reading(rows()))
        assert interrupts.exit_code == 128 + number
    assert signal.getsignal(number) == before


def test_a_signal_outside_of_a_read_waits_for_the_next() -> None:
    with Interrupts() as interrupts:
        reading = interrupts.reading(iter([1, 2]))
        assert next(reading) == 1
        _send(signal.SIGINT)
        _send(signal.SIGINT)
        assert interrupts.count == 2
        with pytest.raises(KeyboardInterrupt):
            next(reading)
