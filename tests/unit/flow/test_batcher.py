"""Grouping: organizations apart, in order, full or old enough, nobody starved."""

from collections import Counter, defaultdict

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from streamer.flow.batcher import Batcher
from streamer.model.event import parse
from streamer.model.record import Record, RecordId


def _record(
    organization: str, offset: int, admitted_at: float = 0.0, campaign: str = "c"
) -> Record:
    record = Record(RecordId("t", 0, offset), None, b"12345", None, admitted_at)
    record.attach_event(
        parse(
            f'{{"organization_id":"{organization}","campaign_id":"{campaign}",'
            f'"recipient_id":"r","email":"e"}}'.encode()
        )
    )
    return record


def _nobody(name: str | None) -> bool:
    """Nobody is passed over, and no account is closed."""
    del name
    return False


def _ready(batcher: Batcher, now: float, count: int = 0) -> str | None:
    """Whose turn it is, and take so many records of theirs."""
    ready = batcher.take_ready(now, count, _nobody, _nobody)
    return None if ready is None else ready[0]


def test_the_oldest_of_several_records_is_due_first() -> None:
    batcher = Batcher(size=9, linger=10.0)
    batcher.add([_record("a", 0, 5.0), _record("a", 1, 2.0, "d"), _record("a", 2, 7.0, "d")])
    assert [_ready(batcher, now) for now in (11.9, 12.0)] == [None, "a"]


def test_a_skipped_organization_does_not_block_others() -> None:
    batcher = Batcher(size=1, linger=10.0)
    batcher.add([_record("a", 0), _record("b", 1)])
    ready = batcher.take_ready(1.0, 0, _nobody, lambda organization: organization == "a")
    assert ready is not None
    assert ready[0] == "b"
    assert batcher.take_ready(1.0, 0, _nobody, lambda organization: True) is None


def test_a_closed_account_does_not_block_others() -> None:
    batcher = Batcher(1, 10.0, lambda organization: organization[0])
    batcher.add([_record(f"closed-{n}", n) for n in range(9)])
    batcher.add([_record("open", 9)])
    asked: list[str] = []

    def is_passed_over(organization: str) -> bool:
        asked.append(organization)
        return False

    ready = batcher.take_ready(1.0, 1, lambda account: account == "c", is_passed_over)
    assert ready is not None
    assert ready[0] == "open"
    assert asked == ["open"]  # those of the closed account are not looked at
    assert batcher.take_ready(1.0, 1, lambda account: account == "c", _nobody) is None


def test_a_batch_is_ready_when_it_is_full() -> None:
    batcher = Batcher(size=3, linger=10.0)
    batcher.add([_record("a", 0), _record("b", 1), _record("a", 2)])
    assert _ready(batcher, 1.0) is None
    batcher.add([_record("a", 3)])
    assert _ready(batcher, 1.0) == "a"


def test_a_batch_is_ready_when_its_oldest_record_has_waited() -> None:
    batcher = Batcher(size=3, linger=10.0)
    batcher.add([_record("a", 0, admitted_at=5.0)])
    assert _ready(batcher, 14.9) is None
    assert _ready(batcher, 15.0) == "a"


def test_organizations_take_turns() -> None:
    batcher = Batcher(size=1, linger=0.0)
    batcher.add([_record("large", offset) for offset in range(100)])
    batcher.add([_record("small", 100)])
    assert [_ready(batcher, 1.0, 1) for _ in range(3)] == ["large", "small", "large"]


def test_fuller_queues_go_first_without_starvation() -> None:
    batcher = Batcher(size=10, linger=1.0)
    batcher.add([_record("small", 0)])
    turns = []
    for turn in range(8):
        batcher.add([_record(f"large-{turn}", offset) for offset in range(5)])
        batcher.add([_record(f"larger-{turn}", offset) for offset in range(7)])
        turns.append(_ready(batcher, 2.0, 10))
    assert turns[:3] == ["larger-0", "larger-1", "larger-2"]
    assert turns[3] == "small"
    assert turns[7] == "large-0"


def test_a_ready_batch_is_taken_in_the_same_step() -> None:
    # Two steps would leave another thread the time to take all in between.
    batcher = Batcher(size=2, linger=0.0)
    batcher.add([_record("a", 0), _record("a", 1)])
    ready = batcher.take_ready(1.0, 9, _nobody, _nobody)
    assert ready is not None
    assert len(ready[1]) == 2
    assert batcher.take("a", 9) == []
    assert batcher.take_ready(1.0, 9, _nobody, _nobody) is None


def test_returned_records_come_first() -> None:
    batcher = Batcher(size=2, linger=0.0)
    batcher.add([_record("a", offset) for offset in range(4)])
    taken = batcher.take("a", 2)
    batcher.put_back("a", taken)
    batcher.put_back("a", [])
    assert [record.record_id.offset for record in batcher.take("a", 9)] == [0, 1, 2, 3]
    assert _ready(batcher, 99.0) is None


@given(st.lists(st.sampled_from("abcd"), max_size=80), st.integers(4, 20))
def test_campaigns_share_each_batch(campaigns: list[str], size: int) -> None:
    batcher = Batcher(size, linger=0.0)
    records = [_record("o", n, campaign=campaign) for n, campaign in enumerate(campaigns)]
    batcher.add(records)
    taken: list[Record] = []
    while left := records[: len(records) - len(taken)]:
        waiting = Counter(r.campaign_id for r in records if r not in taken)
        batch = batcher.take("o", size)
        assert len(batch) == min(size, len(left))
        got = Counter(record.campaign_id for record in batch)
        for campaign, count in waiting.items():
            assert got[campaign] >= min(count, size // len(waiting))
        taken += batch
        assert batcher.bytes == sum(record.size for record in records if record not in taken)
    for campaign in set(campaigns):
        assert [r for r in taken if r.campaign_id == campaign] == [
            r for r in records if r.campaign_id == campaign
        ]


def test_more_campaigns_than_slots_take_turns() -> None:
    batcher = Batcher(2, linger=0.0)
    batcher.add([_record("o", n, campaign="abcde"[n % 5]) for n in range(10)])
    first = [r.campaign_id for _ in range(5) for r in batcher.take("o", 1)]
    assert sorted(first) == list("abcde")


@given(st.lists(st.sampled_from("abc"), max_size=60), st.integers(1, 7))
def test_records_are_not_lost_duplicated_or_reordered(organizations: list[str], size: int) -> None:
    batcher = Batcher(size, linger=0.0)
    records = [_record(name, offset) for offset, name in enumerate(organizations)]
    batcher.add(records)
    batches: list[tuple[str, list[Record]]] = []
    while (batch := batcher.take_ready(1.0, size, _nobody, _nobody)) is not None:
        assert batch[1]
        batches.append(batch)
    assert len(batcher) == 0
    assert all(len(batch) <= size for _, batch in batches)
    for name in "abc":
        taken = [r for organization, batch in batches if organization == name for r in batch]
        assert taken == [r for r in records if r.organization_id == name]


@given(st.sets(st.integers(0, 30)))
def test_only_discarded_records_are_removed(gone: set[int]) -> None:
    batcher = Batcher(5, linger=0.0)
    records = [_record("ab"[offset % 2], offset) for offset in range(31)]
    batcher.add(records)
    taken = batcher.take("a", 3)
    found = batcher.discard([records[offset] for offset in gone])
    assert found == {id(records[offset]) for offset in gone} - set(map(id, taken))
    left = {r.record_id.offset for name in "ab" for r in batcher.take(name, 99)}
    assert left == set(range(31)) - gone - {record.record_id.offset for record in taken}
    assert (len(batcher), batcher.bytes, batcher.full_batches) == (0, 0, 0)


class _BatcherMachine(RuleBasedStateMachine):
    """A batcher, and beside it the plain records that it has."""

    _SIZE = 3
    _LINGER = 2.0
    _NAMES = st.sampled_from(["a1", "a2", "a3", "b1", "b2"])

    def __init__(self) -> None:
        super().__init__()
        self.batcher = Batcher(self._SIZE, self._LINGER, lambda organization: organization[0])
        self.queued: dict[str, list[Record]] = defaultdict(list)
        self.now = 0.0
        self.offset = 0

    @rule(seconds=st.sampled_from([0.5, 1.0, 3.0]))
    def later(self, seconds: float) -> None:
        self.now += seconds

    @rule(names=st.lists(_NAMES, max_size=6), campaign=st.sampled_from("cd"))
    def add(self, names: list[str], campaign: str) -> None:
        records = []
        for name in names:
            records.append(_record(name, self.offset, self.now, campaign))
            self.queued[name].append(records[-1])
            self.offset += 1
        self.batcher.add(records)

    @rule(name=_NAMES, count=st.integers(1, 4), back=st.integers(0, 4))
    def take_and_put_back(self, name: str, count: int, back: int) -> None:
        taken = self.batcher.take(name, count)
        assert len(taken) == min(count, len(self.queued[name]))
        returned = taken[:back]
        self._forget(name, taken[back:])
        self.batcher.put_back(name, returned)

    @rule(closed=st.sampled_from([None, "a", "b"]), passed=st.sets(_NAMES), count=st.integers(1, 4))
    def take_ready(self, closed: str | None, passed: set[str], count: int) -> None:
        able = {
            name
            for name, records in self.queued.items()
            if name[0] != closed and name not in passed and self._is_ready(records)
        }
        ready = self.batcher.take_ready(
            self.now, count, lambda account: account == closed, lambda name: name in passed
        )
        if ready is None:
            assert not able
            return
        name, taken = ready
        assert name in able
        assert len(taken) == min(count, len(self.queued[name]))
        self._forget(name, taken)

    @rule(gone=st.sets(st.integers(0, 60)))
    def discard(self, gone: set[int]) -> None:
        for name, records in self.queued.items():
            unwanted = [record for record in records if record.offset in gone]
            assert self.batcher.discard(unwanted) == set(map(id, unwanted))
            self._forget(name, unwanted)

    @invariant()
    def it_counts_what_it_has(self) -> None:
        records = [record for records in self.queued.values() for record in records]
        assert len(self.batcher) == len(records)
        assert self.batcher.bytes == sum(record.size for record in records)
        assert self.batcher.full_batches == sum(
            len(records) // self._SIZE for records in self.queued.values()
        )

    def _is_ready(self, records: list[Record]) -> bool:
        return len(records) >= self._SIZE or any(
            self.now >= record.admitted_at + self._LINGER for record in records
        )

    def _forget(self, name: str, records: list[Record]) -> None:
        gone = set(map(id, records))
        self.queued[name] = [record for record in self.queued[name] if id(record) not in gone]


TestCourse = _BatcherMachine.TestCase
