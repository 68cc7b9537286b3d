"""Exactly-once counting under crashes, repeats and concurrency, checked on a model of the rules.

The Lua scripts implement the same rules in Redis; `tests/integration/test_projector.py` runs
the same events against them.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

from hypothesis import example, given, settings

from streamer.kafka.offsets import Partition
from streamer.model.campaign import CampaignName
from streamer.progress.store import Positions, StaleGenerationError, Update
from tests.kit.properties import examples
from tests.unit.progress.happenings import (
    PARTITIONS,
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
        self.offsets: dict[Partition, int] = {}
        self.counts: dict[CampaignName, tuple[int, Counter[str]]] = {}
        self.marks: dict[tuple[CampaignName, Partition], int] = {}

    def open(self, *, anew: bool = False) -> Positions:
        if anew:
            self.generation += 1
            self.offsets = {}
        return Positions(str(self.generation), dict(self.offsets))

    def apply(self, generation: str, updates: Sequence[Update]) -> list[int | None]:
        return [self._apply_one(int(generation), update) for update in updates]

    def _apply_one(self, generation: int, update: Update) -> int | None:
        kept = self.counts.get(update.name)
        if kept is not None and kept[0] > generation:
            raise StaleGenerationError
        if kept is None or kept[0] < generation:
            kept = self.counts[update.name] = (generation, Counter())
            for partition in PARTITIONS:
                self.marks[update.name, partition] = 0
        mark = self.marks[update.name, update.partition]
        if mark >= update.share.end:
            return None
        if mark > update.share.start:
            return mark
        kept[1].update(update.share.delta.counts)
        self.marks[update.name, update.partition] = update.share.end
        return None

    def advance(self, generation: str, offsets: Mapping[Partition, int]) -> None:
        if int(generation) != self.generation:
            raise StaleGenerationError
        for partition, offset in offsets.items():
            self.offsets[partition] = max(offset, self.offsets.get(partition, 0))

    def found(self) -> dict[CampaignName, Counter[str]]:
        return {name: counts for name, (at, counts) in self.counts.items() if at == self.generation}


@settings(max_examples=examples(300), deadline=None)
@example(*left_behind)
@given(topics, happenings)
def test_each_record_counts_once(written: Written, happened: list[Happening]) -> None:
    store = ModelStore()
    play(store, written, happened)
    assert store.found() == counted(written)
