"""Grouping: organizations apart, in order, full or old enough, nobody starved."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from streamer.flow.batcher import Batcher
from streamer.model.event import parse
from streamer.model.record import Coordinates, Record


def _record(
    organization: str, offset: int, admitted_at: float = 0.0, campaign: str = "c"
) -> Record:
    record = Record(Coordinates("t", 0, offset), None, b"12345", None, admitted_at)
    record.take(
        parse(
            f'{{"organization_id":"{organization}","campaign_id":"{campaign}",'
            f'"recipient_id":"r","email":"e"}}'.encode()
        )
    )
    return record


def nobody(organization: str) -> bool:
    """Nobody is passed over."""
    del organization
    return False


def test_one_that_is_passed_over_keeps_nobody_waiting() -> None:
    batcher = Batcher(size=1, linger=10.0)
    batcher.add([_record("a", 0), _record("b", 1)])
    assert batcher.ready(1.0, lambda organization: organization == "a") == "b"
    assert batcher.ready(1.0, lambda organization: True) is None


def test_a_batch_is_ready_when_it_is_full() -> None:
    batcher = Batcher(size=3, linger=10.0)
    batcher.add([_record("a", 0), _record("b", 1), _record("a", 2)])
    assert batcher.ready(1.0, nobody) is None
    batcher.add([_record("a", 3)])
    assert batcher.ready(1.0, nobody) == "a"


def test_a_batch_is_ready_when_its_oldest_record_has_waited() -> None:
    batcher = Batcher(size=3, linger=10.0)
    batcher.add([_record("a", 0, admitted_at=5.0)])
    assert batcher.ready(14.9, nobody) is None
    assert batcher.ready(15.0, nobody) == "a"


def test_organizations_take_turns() -> None:
    batcher = Batcher(size=1, linger=0.0)
    batcher.add([_record("large", offset) for offset in range(100)])
    batcher.add([_record("small", 100)])
    turns = []
    for _ in range(3):
        organization = batcher.ready(1.0, nobody)
        assert organization is not None
        turns.append(organization)
        batcher.take(organization, 1)
    assert turns == ["large", "small", "large"]


def test_what_is_put_back_comes_first() -> None:
    batcher = Batcher(size=2, linger=0.0)
    batcher.add([_record("a", offset) for offset in range(4)])
    taken = batcher.take("a", 2)
    batcher.put_back("a", taken)
    batcher.put_back("a", [])
    assert [record.coordinates.offset for record in batcher.take("a", 9)] == [0, 1, 2, 3]
    assert batcher.ready(99.0, nobody) is None


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


def test_more_campaigns_than_places_take_turns() -> None:
    batcher = Batcher(2, linger=0.0)
    batcher.add([_record("o", n, campaign="abcde"[n % 5]) for n in range(10)])
    first = [r.campaign_id for _ in range(5) for r in batcher.take("o", 1)]
    assert sorted(first) == list("abcde")


@given(st.lists(st.sampled_from("abc"), max_size=60), st.integers(1, 7))
def test_nothing_is_lost_doubled_or_reordered(organizations: list[str], size: int) -> None:
    batcher = Batcher(size, linger=0.0)
    records = [_record(name, offset) for offset, name in enumerate(organizations)]
    batcher.add(records)
    batches: list[tuple[str, list[Record]]] = []
    while (organization := batcher.ready(1.0, nobody)) is not None:
        batches.append((organization, batcher.take(organization, size)))
    assert len(batcher) == 0
    assert all(len(batch) <= size for _, batch in batches)
    for name in "abc":
        taken = [r for organization, batch in batches if organization == name for r in batch]
        assert taken == [r for r in records if r.organization_id == name]


@given(st.sets(st.integers(0, 30)))
def test_discarded_records_are_gone_and_only_they(gone: set[int]) -> None:
    batcher = Batcher(5, linger=0.0)
    records = [_record("ab"[offset % 2], offset) for offset in range(31)]
    batcher.add(records)
    batcher.discard([records[offset] for offset in gone])
    left = {r.coordinates.offset for name in "ab" for r in batcher.take(name, 99)}
    assert left == set(range(31)) - gone
