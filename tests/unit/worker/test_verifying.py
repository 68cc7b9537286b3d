"""The ledger is checked, and told of the input, beside the loop: never in its way."""

import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import cast

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from streamer.ledger.epoch import Epoch, LedgerLostError
from streamer.ledger.input_offsets import InputOffsets
from streamer.ledger.pulse import Pulse, StaleLedgerError
from streamer.model.pulse import OffsetMetadata
from streamer.worker import verifying
from streamer.worker.verifying import EpochVerifier
from streamer.worker.waiter import Waiter


class _Pulse:
    """A ledger's pulse, which is fine, or is not."""

    def __init__(self) -> None:
        self.verified: list[int] = []
        self.beats = 0
        self.error: Exception | None = None

    def verify(self, committed: list[int]) -> None:
        self.verified += committed

    def beat(self) -> None:
        if self.error is not None:
            raise self.error
        self.beats += 1


class _Ledger:
    """A ledger's epoch and offsets; it may stand still, be away, or be lost."""

    name = "e"

    def __init__(self) -> None:
        self.goes_on = threading.Event()
        self.goes_on.set()
        self.error: Exception | None = None
        self.kept: list[Mapping[int, int]] = []
        self.verified: list[set[str]] = []
        self.pulse = _Pulse()

    def verify(self, committed: Iterable[str] = ()) -> None:
        self.goes_on.wait(30)
        if self.error is not None:
            raise self.error
        self.verified.append({*committed})

    def read(self) -> dict[int, int]:
        return {3: 42}

    def keep(self, offsets: Mapping[int, int], epoch: str) -> None:
        assert epoch == "e"
        self.kept.append(dict(offsets))


@contextmanager
def _verifier(ledger: _Ledger) -> Iterator[EpochVerifier]:
    waiter = Waiter()
    made = EpochVerifier(
        cast(Epoch, ledger), cast(Pulse, ledger.pulse), cast(InputOffsets, ledger), waiter
    )
    try:
        yield made
    finally:
        ledger.goes_on.set()
        waiter.stop()
        made.close()


@pytest.fixture
def ledger() -> _Ledger:
    return _Ledger()


def _until(ledger: _Ledger, checks: int) -> None:
    deadline = time.monotonic() + 5
    while len(ledger.verified) < checks:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_a_hanging_ledger_blocks_no_caller(
    ledger: _Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verifying, "_KEEP_S", 0.1)
    ledger.goes_on.clear()
    with _verifier(ledger) as verifier:
        verifier.verify({0: 1})
        answer = verifier.check_arrived({OffsetMetadata("e", 7)})
        for _ in range(100):
            verifier.verify({0: 2})
        assert not answer.done()
        verifier.keep({0: 2})  # it is left at that
        ledger.goes_on.set()
        assert answer.result(5) == {3: 42}
        assert {"e"} in ledger.verified
        assert ledger.pulse.verified == [7]


def test_changed_offsets_are_stored_and_all_periodically(
    ledger: _Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    with _verifier(ledger) as verifier:
        for checks, offsets in enumerate(({0: 1}, {0: 1}, {0: 2, 1: 5}, {0: 2, 1: 5}), 1):
            verifier.verify(offsets)
            _until(ledger, checks)
        assert ledger.kept == [{0: 1}, {0: 2, 1: 5}]
        monkeypatch.setattr(verifying, "_KEEP_AGAIN_S", 0.0)
        verifier.keep({0: 3, 1: 5})
        verifier.keep({0: 3, 1: 5})
        assert ledger.kept[2:] == [{0: 3, 1: 5}] * 2


def test_nothing_is_stored_in_a_lost_ledger(ledger: _Ledger) -> None:
    ledger.error = LedgerLostError("lost")
    with _verifier(ledger) as verifier:
        with pytest.raises(LedgerLostError):
            verifier.check_arrived({OffsetMetadata("e", 7)}).result(5)
        with pytest.raises(LedgerLostError):
            verifier.keep({0: 1})
        ledger.error = RedisConnectionError("away")
        verifier.keep({0: 1})
    assert ledger.kept == []


def test_each_check_beats_and_a_stale_ledger_is_given_nothing(ledger: _Ledger) -> None:
    with _verifier(ledger) as verifier:
        verifier.verify({0: 1})
        _until(ledger, 1)
        verifier.keep({0: 1})
        assert ledger.pulse.beats == 2
        ledger.pulse.error = StaleLedgerError("it is older", 1)
        with pytest.raises(LedgerLostError):
            verifier.keep({0: 2})
    assert ledger.kept == [{0: 1}]
