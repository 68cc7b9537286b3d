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

from streamer.progress.fold import CampaignKey, Chunk, Cursor, Stream, fold
from streamer.progress.projection import Projection
from streamer.progress.store import Positions, StaleGenerationError, Store, Update
from tests.unit.progress.records import FakeRecord, event, outcome

CURSORS = [
    Cursor(Stream.RECIPIENTS, "recipients", 0),
    Cursor(Stream.OUTCOMES, "outcomes", 0),
    Cursor(Stream.OUTCOMES, "outcomes", 1),
]
_PROJECTORS = 2
_CAMPAIGNS = ["spring", "autumn"]


Written = dict[Cursor, list[FakeRecord]]


class What(Enum):
    """Kinds of events."""

    GO_ON = "take one step, or start a chunk"
    CRASH = "crash and be replaced"
    REBUILD = "restart counting from the beginning"


class Happening(NamedTuple):
    """An event for one projector; `cursor` and `most` say what it reads if it starts a chunk."""

    what: What
    projector: int
    cursor: int
    most: int


class StoreLike(Protocol):
    """The part of `Store` used by a projection."""

    def open(self, *, anew: bool = False) -> Positions:
        """See `Store`."""

    def apply(self, generation: str, updates: Sequence[Update]) -> list[int | None]:
        """See `Store`."""

    def advance(self, generation: str, offsets: Mapping[Cursor, int]) -> None:
        """See `Store`."""


@st.composite
def _topics(draw: st.DrawFn) -> Written:
    """Records of a few campaigns, with offset gaps like those left by transactions."""
    written: Written = {}
    for cursor in CURSORS:
        at, records = 0, []
        for campaign, gap in draw(
            st.lists(st.tuples(st.sampled_from(_CAMPAIGNS), st.integers(1, 2)), max_size=8)
        ):
            records.append(_record(cursor.stream, at, campaign))
            at += gap
        written[cursor] = records
    return written


def _record(stream: Stream, at: int, campaign: str) -> FakeRecord:
    if stream is Stream.RECIPIENTS:
        return event(at, campaign)
    return outcome(at, "sent", None, campaign, second=at)


topics = _topics()
happenings = st.lists(
    st.builds(
        Happening,
        st.sampled_from([What.GO_ON] * 8 + [What.CRASH, What.REBUILD]),
        st.integers(0, _PROJECTORS - 1),
        st.integers(0, len(CURSORS) - 1),
        st.integers(1, 4),
    ),
    max_size=60,
)

_CURSOR = CURSORS.index(Cursor(Stream.OUTCOMES, "outcomes", 0))
left_behind: tuple[Written, list[Happening]] = (
    {
        cursor: [outcome(at) for at in range(3 if cursor == CURSORS[_CURSOR] else 0)]
        for cursor in CURSORS
    },
    [
        *[Happening(What.GO_ON, 0, _CURSOR, 2)] * 3,
        Happening(What.REBUILD, 0, 0, 0),
        *[Happening(What.GO_ON, 1, _CURSOR, 1)] * 3,
        *[Happening(What.GO_ON, 0, _CURSOR, 1)] * 2,
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
                projector.go_on(CURSORS[each.cursor], each.most)
        last = _Projector(store, written)
        for cursor in CURSORS:
            last.go_on(cursor, len(written[cursor]))
            last.finish()
        for projector in projectors:
            projector.finish()
    finally:
        for projector in projectors:
            projector.crash()


def counted(written: Written) -> dict[CampaignKey, Counter[str]]:
    """The expected counts: a single fold over all records."""
    counts: dict[CampaignKey, Counter[str]] = {}
    for cursor, records in written.items():
        for key, delta in fold(cursor, records).items():
            counts.setdefault(key, Counter()).update(delta.increments)
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
        self._open: tuple[Projection, dict[Cursor, int]] | None = None
        self.failure: BaseException | None = None

    def go_on(self, cursor: Cursor, count: int) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, args=(cursor, count))
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

    def _run(self, cursor: Cursor, count: int) -> None:
        try:
            self._read(cursor, count)
        except (StaleGenerationError, _CrashedError):
            self._open = None
        except BaseException as failure:  # noqa: BLE001  # raised where the test runs
            self.failure = failure
        self._thread = None
        self._stopped.release()

    def _read(self, cursor: Cursor, count: int) -> None:
        if self._open is None:
            positions = self._store.open()
            # The wrapper passes on one update at a time.
            self._open = Projection(_Stops(self, self._store), positions), dict(positions.offsets)
        projection, offsets = self._open
        start = offsets.get(cursor, 0)
        records = [record for record in self._written[cursor] if record.at >= start][:count]
        if records:
            end = records[-1].at + 1
            projection.add({cursor: Chunk(records, end)})
            offsets[cursor] = end

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

    def advance(self, generation: str, offsets: Mapping[Cursor, int]) -> None:
        self._projector.stop()
        self._store.advance(generation, offsets)
