"""Records of one address in one batch: a duplicate, or the very record again."""

from streamer.model.event import parse
from streamer.model.record import Coordinates, Outcome, Record
from streamer.worker.batch import Batch
from streamer.worker.work import Work


def _record(offset: int, email: str) -> Record:
    record = Record(Coordinates("t", 0, offset), None, None, None, 0.0)
    record.take(parse(b'{"organization_id":"o","campaign_id":"c","recipient_id":"r","email":"e"}'))
    record.address = email
    return record


def _work() -> Work:
    work = Work(Batch("o", size=10, max_bytes=1_000))
    for offset, email in enumerate(["ann@a.test", "bob@a.test"]):
        assert work.batch.add(_record(offset, email), b"{}")
    return work


def test_another_record_of_a_member_s_address_is_a_duplicate() -> None:
    work = _work()
    twin = _record(7, "bob@a.test")
    work.twins = [twin]
    work.end_twins(1.0)
    assert isinstance(twin.ending, Outcome)
    assert (twin.ending.reason, twin.ending.detail) == ("duplicate", "of t/0/1")
    assert not work.adoptions
    assert not work.twins


def test_a_member_that_was_read_again_gets_the_batch_s_result() -> None:
    work = _work()
    again = _record(1, "bob@a.test")
    work.twins = [again]
    work.end_twins(1.0)
    assert again.ending is None
    assert work.adoptions == {work.batch.id: [(again, 1)]}


def test_a_twin_of_nobody_waits_for_the_next_batch() -> None:
    work = _work()
    twin = _record(7, "bob@a.test")
    work.twins = [twin]
    work.batch.remove(frozenset({1}))
    work.end_twins(1.0)
    assert work.twins == [twin]
    assert twin.ending is None
