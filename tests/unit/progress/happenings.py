"""Concurrent projectors with arbitrary interleavings, crashes and rebuilds.

Each projector runs in its own thread, but only one moves at a time: it stops before each call to
the store until told to continue or to crash.
"""

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import NamedTuple, Protocol

from hypothesis import strategies as st

from streamer.kafka.offsets import Partition
from streamer.model.campaign import CampaignName
from streamer.progress.fold import Chunk, fold
from streamer.progress.projection import Projection
from streamer.progress.store import Positions, StaleGenerationError, Store, Update
from tests.unit.progress.records import FakeRecord, progress

PARTITIONS = [("progress", number) for number in range(3)]
_PROJECTORS = 2
_CAMPAIGNS = ["spring", "autumn"]
_COUNTS = [{"sent": 1}, {"sent": 2, "parked": 1}, {"skipped:cancelled": 1, "parked": -1}]


Written = dict[Partition, list[FakeRecord]]


class What(Enum):
    """Kinds of events."""

    GO_ON = "take one step, or start a chunk"
    CRASH = "crash and be replaced"
    REBUILD = "restart counting from the beginning"


class Happening(NamedTuple):
    """An event for one projector; `partition` and `most` say what it reads if it starts a chunk."""

    what: What
    projector: int
    partition: int
    most: int


class StoreLike(Protocol):
    """The part of `Store` used by a projection."""

    def open(self, *, anew: bool = False) -> Positions:
        """See `Store`."""

    def apply(self, generation: str, updates: Sequence[Update]) -> list[int | None]:
        """See `Store`."""

    def advance(self, generation: str, offsets: Mapping[Partition, int]) -> None:
        """See `Store`."""


@st.composite
def _topics(draw: st.DrawFn) -> Written:
    """Records of a few campaigns, with offset gaps like those left by transactions."""
    written: Written = {}
    one = st.tuples(st.sampled_from(_CAMPAIGNS), st.sampled_from(_COUNTS), st.integers(1, 2))
    for partition in PARTITIONS:
        at, records = 0, []
        for campaign, counts, gap in draw(st.lists(one, max_size=8)):
            records.append(progress(at, counts, campaign, second=at))
            at += gap
        written[partition] = records
    return written


topics = _topics()
happenings = st.lists(
    st.builds(
        Happening,
        st.sampled_from([What.GO_ON] * 8 + [What.CRASH, What.REBUILD]),
        st.integers(0, _PROJECTORS - 1),
        st.integers(0, len(PARTITIONS) - 1),
        st.integers(1, 4),
    ),
    max_size=60,
)

left_behind: tuple[Written, list[Happening]] = (
    {each: [progress(at) for at in range(3 * (each == PARTITIONS[0]))] for each in PARTITIONS},
    [
        *[Happening(What.GO_ON, 0, 0, 2)] * 3,
        Happening(What.REBUILD, 0, 0, 0),
        *[Happening(What.GO_ON, 1, 0, 1)] * 3,
        *[Happening(What.GO_ON, 0, 0, 1)] * 2,
    ],
)
"""A projector continues after a rebuild, which another projector has already started."""


def play(store: StoreLike, written: Written, happened: Sequence[Happening]) -> None:
    """Run the events, then let another projector read everything and the stopped ones finish."""
    projectors = [_Projector(store, written) for _ in range(_PROJECTORS)]
    try:
        for each in happened:
            projector = projectors[each.projector]
            if each.what is What.REBUILD:
                store.open(anew=True)
            elif each.what is What.CRASH:
                projector.crash()
            else:
                projector.go_on(PARTITIONS[each.partition], each.most)
        last = _Projector(store, written)
        for partition in PARTITIONS:
            last.go_on(partition, len(written[partition]))
            last.finish()
        for projector in projectors:
            projector.finish()
    finally:
        for projector in projectors:
            projector.crash()


def counted(written: Written) -> dict[CampaignName, Counter[str]]:
    """The expected counts: a single fold over all records."""
    counts: dict[CampaignName, Counter[str]] = {}
    for records in written.values():
        for name, share in fold(records).items():
            counts.setdefault(name, Counter()).update(share.delta.counts)
    return counts


class _CrashedError(BaseException):
    """The projector crashes."""


class _Projector:
    """A projector that stops before each call to the store."""

    def __init__(self, store: StoreLike, written: Written) -> None:
        self._store = store
        self._written = written
        self._thread: threading.Thread | None = None
        self._go, self._stopped = threading.Semaphore(0), threading.Semaphore(0)
        self._is_crashing = False
        self._open: tuple[Projection, dict[Partition, int]] | None = None
        self.failure: BaseException | None = None

    def go_on(self, partition: Partition, count: int) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, args=(partition, count))
            self._thread.start()
        else:
            self._go.release()
        self._await()

    def finish(self) -> None:
        while self._thread is not None:
            self._go.release()
            self._await()

    def crash(self) -> None:
        self._is_crashing = True
        self.finish()
        self._is_crashing = False
        self._open = None

    def _await(self) -> None:
        self._stopped.acquire()
        if self.failure is not None:
            raise self.failure

    def _run(self, partition: Partition, count: int) -> None:
        try:
            self._read(partition, count)
        except (StaleGenerationError, _CrashedError):
            self._open = None
        except BaseException as failure:  # noqa: BLE001  # raised where the test runs
            self.failure = failure
        self._thread = None
        self._stopped.release()

    def _read(self, partition: Partition, count: int) -> None:
        if self._open is None:
            positions = self._store.open()
            # The wrapper passes on one update at a time.
            self._open = (
                Projection(_Stops(self, self._store), positions.generation),
                dict(positions.offsets),
            )
        projection, offsets = self._open
        start = offsets.get(partition, 0)
        records = [record for record in self._written[partition] if record.at >= start][:count]
        if records:
            end = records[-1].at + 1
            projection.add({partition: Chunk(records, end)})
            offsets[partition] = end

    def stop(self) -> None:
        """Wait until told to continue."""
        self._stopped.release()
        self._go.acquire()
        if self._is_crashing:
            raise _CrashedError


class _Stops(Store):
    """A store that stops before each operation."""

    def __init__(self, projector: _Projector, store: StoreLike) -> None:
        self._projector = projector
        self._store = store

    def apply(self, generation: str, updates: Sequence[Update]) -> list[int | None]:
        answers = []
        for update in updates:
            self._projector.stop()
            answers += self._store.apply(generation, [update])
        return answers

    def advance(self, generation: str, offsets: Mapping[Partition, int]) -> None:
        self._projector.stop()
        self._store.advance(generation, offsets)
