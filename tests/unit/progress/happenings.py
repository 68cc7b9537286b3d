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

from streamer.progress.fold import CampaignKey, Chunk, Cursor, Place, fold
from streamer.progress.projection import Projection
from streamer.progress.store import Positions, StaleGenerationError, Store, Update
from tests.unit.progress.records import Record, event, outcome

PLACES = [
    Place(Cursor.RECIPIENTS, "recipients", 0),
    Place(Cursor.OUTCOMES, "outcomes", 0),
    Place(Cursor.OUTCOMES, "outcomes", 1),
]
_PROJECTORS = 2
_CAMPAIGNS = ["spring", "autumn"]


Written = dict[Place, list[Record]]


class What(Enum):
    """Kinds of events."""

    GO_ON = "take one step, or start a chunk"
    CRASH = "crash and be replaced"
    REBUILD = "restart counting from the beginning"


class Happening(NamedTuple):
    """An event for one projector; `place` and `most` say what it reads if it starts a chunk."""

    what: What
    projector: int
    place: int
    most: int


class StoreLike(Protocol):
    """The part of `Store` used by a projection."""

    def open(self, *, anew: bool = False) -> Positions:
        """See `Store`."""

    def apply(self, generation: str, updates: Sequence[Update]) -> list[int | None]:
        """See `Store`."""

    def advance(self, generation: str, offsets: Mapping[Place, int]) -> None:
        """See `Store`."""


@st.composite
def _topics(draw: st.DrawFn) -> Written:
    """Records of a few campaigns, with offset gaps like those left by transactions."""
    written: Written = {}
    for place in PLACES:
        at, records = 0, []
        for campaign, gap in draw(
            st.lists(st.tuples(st.sampled_from(_CAMPAIGNS), st.integers(1, 2)), max_size=8)
        ):
            records.append(_record(place.cursor, at, campaign))
            at += gap
        written[place] = records
    return written


def _record(cursor: Cursor, at: int, campaign: str) -> Record:
    if cursor is Cursor.RECIPIENTS:
        return event(at, campaign)
    return outcome(at, "sent", None, campaign, second=at)


topics = _topics()
happenings = st.lists(
    st.builds(
        Happening,
        st.sampled_from([What.GO_ON] * 8 + [What.CRASH, What.REBUILD]),
        st.integers(0, _PROJECTORS - 1),
        st.integers(0, len(PLACES) - 1),
        st.integers(1, 4),
    ),
    max_size=60,
)

_PLACE = PLACES.index(Place(Cursor.OUTCOMES, "outcomes", 0))
left_behind: tuple[Written, list[Happening]] = (
    {place: [outcome(at) for at in range(3 if place == PLACES[_PLACE] else 0)] for place in PLACES},
    [
        *[Happening(What.GO_ON, 0, _PLACE, 2)] * 3,
        Happening(What.REBUILD, 0, 0, 0),
        *[Happening(What.GO_ON, 1, _PLACE, 1)] * 3,
        *[Happening(What.GO_ON, 0, _PLACE, 1)] * 2,
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
                projector.go_on(PLACES[each.place], each.most)
        last = _Projector(store, written)
        for place in PLACES:
            last.go_on(place, len(written[place]))
            last.finish()
        for projector in projectors:
            projector.finish()
    finally:
        for projector in projectors:
            projector.crash()


def counted(written: Written) -> dict[CampaignKey, Counter[str]]:
    """The expected counts: a single fold over all records."""
    counts: dict[CampaignKey, Counter[str]] = {}
    for place, records in written.items():
        for key, share in fold(place, records).items():
            counts.setdefault(key, Counter()).update(share.increments)
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
        self._open: tuple[Projection, dict[Place, int]] | None = None
        self.failure: BaseException | None = None

    def go_on(self, place: Place, count: int) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, args=(place, count))
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

    def _run(self, place: Place, count: int) -> None:
        try:
            self._read(place, count)
        except (StaleGenerationError, _CrashedError):
            self._open = None
        except BaseException as failure:  # noqa: BLE001  # raised where the test runs
            self.failure = failure
        self._thread = None
        self._stopped.release()

    def _read(self, place: Place, count: int) -> None:
        if self._open is None:
            positions = self._store.open()
            # The wrapper passes on one update at a time.
            self._open = Projection(_Stops(self, self._store), positions), dict(positions.offsets)
        projection, offsets = self._open
        start = offsets.get(place, 0)
        records = [record for record in self._written[place] if record.at >= start][:count]
        if records:
            end = records[-1].at + 1
            projection.add({place: Chunk(records, end)})
            offsets[place] = end

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

    def advance(self, generation: str, offsets: Mapping[Place, int]) -> None:
        self._projector.stop()
        self._store.advance(generation, offsets)
