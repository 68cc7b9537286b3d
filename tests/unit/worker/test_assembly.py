"""Records of one address in one batch: a duplicate, or the very record again."""

from streamer.model.event import parse
from streamer.model.record import Outcome, Record, RecordId
from streamer.worker.assembly import BatchAssembly
from streamer.worker.batch import Batch


def _record(offset: int, email: str) -> Record:
    record = Record(RecordId("t", 0, offset), None, None, None, 0.0)
    record.attach_event(
        parse(b'{"organization_id":"o","campaign_id":"c","recipient_id":"r","email":"e"}')
    )
    record.address = email
    return record


def _assembly() -> BatchAssembly:
    assembly = BatchAssembly(Batch("o", size=10, max_bytes=1_000))
    for offset, email in enumerate(["ann@a.test", "bob@a.test"]):
        assert assembly.batch.add(_record(offset, email), b"{}")
    return assembly


def test_another_record_of_the_same_address_is_a_duplicate() -> None:
    assembly = _assembly()
    twin = _record(7, "bob@a.test")
    assembly.same_address = [twin]
    assembly.resolve_same_address(1.0)
    assert isinstance(twin.resolution, Outcome)
    assert (twin.resolution.reason, twin.resolution.detail) == ("duplicate", "of t/0/1")
    assert not assembly.adoptions
    assert not assembly.same_address


def test_a_redelivered_member_gets_the_batchs_result() -> None:
    assembly = _assembly()
    again = _record(1, "bob@a.test")
    assembly.same_address = [again]
    assembly.resolve_same_address(1.0)
    assert again.resolution is None
    assert assembly.adoptions == {assembly.batch.id: [(again, 1)]}


def test_a_repeated_address_waits_if_its_member_was_removed() -> None:
    assembly = _assembly()
    twin = _record(7, "bob@a.test")
    assembly.same_address = [twin]
    assembly.batch.remove(frozenset({1}))
    assembly.resolve_same_address(1.0)
    assert assembly.same_address == [twin]
    assert twin.resolution is None
