"""Exactly-once counting under crashes, repeats and concurrency, checked on a model of the rules.

The Lua scripts implement the same rules in Redis; `tests/integration/test_projector.py` runs
the same events against them.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

from hypothesis import example, given, settings

from streamer.progress.fold import CampaignKey, Cursor
from streamer.progress.store import Positions, StaleGenerationError, Update
from tests.unit.progress.happenings import (
    CURSORS,
    Happening,
    Written,
    counted,
    happenings,
    left_behind,
    play,
    topics,
)


class ModelStore:
    """The store's rules, in memory."""

    def __init__(self) -> None:
        self.generation = 1
        self.offsets: dict[Cursor, int] = {}
        self.counts: dict[CampaignKey, tuple[int, Counter[str]]] = {}
        self.marks: dict[tuple[CampaignKey, Cursor], int] = {}

    def open(self, *, anew: bool = False) -> Positions:
        if anew:
            self.generation += 1
            self.offsets = {}
        return Positions(str(self.generation), dict(self.offsets))

    def apply(self, generation: str, updates: Sequence[Update]) -> list[int | None]:
        return [self._apply_one(int(generation), update) for update in updates]

    def _apply_one(self, generation: int, update: Update) -> int | None:
        kept = self.counts.get(update.key)
        if kept is not None and kept[0] > generation:
            raise StaleGenerationError
        if kept is None or kept[0] < generation:
            kept = self.counts[update.key] = (generation, Counter())
            for cursor in CURSORS:
                self.marks[update.key, cursor] = 0
        mark = self.marks[update.key, update.cursor]
        if mark >= update.delta.end:
            return None
        if mark > update.delta.start:
            return mark
        kept[1].update(update.delta.increments)
        self.marks[update.key, update.cursor] = update.delta.end
        return None

    def advance(self, generation: str, offsets: Mapping[Cursor, int]) -> None:
        if int(generation) != self.generation:
            raise StaleGenerationError
        for cursor, offset in offsets.items():
            self.offsets[cursor] = max(offset, self.offsets.get(cursor, 0))

    def found(self) -> dict[CampaignKey, Counter[str]]:
        return {key: counts for key, (at, counts) in self.counts.items() if at == self.generation}


@settings(max_examples=300, deadline=None)
@example(*left_behind)
@given(topics, happenings)
def test_each_record_counts_once(written: Written, happened: list[Happening]) -> None:
    store = ModelStore()
    play(store, written, happened)
    assert store.found() == counted(written)
