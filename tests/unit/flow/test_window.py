"""The window against a simple model: what may be committed, and when."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from streamer.flow.window import PartitionWindow
from streamer.model.event import parse
from streamer.model.reasons import Status
from streamer.model.record import Outcome, Record, RecordId

_EVENT = parse(b'{"organization_id":"o","campaign_id":"c","recipient_id":"r","email":"e"}')


def _record(offset: int) -> Record:
    record = Record(RecordId("t", 0, offset), None, b"value", None, 0.0)
    record.attach_event(_EVENT)
    return record


class Partition(RuleBasedStateMachine):
    """A partition that is assigned, read with gaps, decided in any order, revoked and lost."""

    def __init__(self) -> None:
        super().__init__()
        self.log: list[int] = []
        self.committed = 0
        self.emitted: list[int] = []
        self.read = 0
        self.window: PartitionWindow | None = None
        self.dropped: list[Record] = []
        self.open: list[Record] = []
        self.held: list[Record] = []

    @rule(gap=st.integers(1, 3))
    def produce(self, gap: int) -> None:
        self.log.append((self.log[-1] if self.log else -1) + gap)

    @precondition(lambda self: self.window is None)
    @rule()
    def assign(self) -> None:
        self.window = PartitionWindow(self.committed, is_marked=True)
        self.read = self.committed
        self.open = []
        self.held = []

    @precondition(lambda self: self.window is not None)
    @rule(late=st.booleans())
    def poll(self, late: bool) -> None:
        assert self.window is not None
        if late and self.read:  # of a fetch before the assignment: seen already
            assert not self.window.admit(_record(self.read - 1))
            return
        ahead = [offset for offset in self.log if offset >= self.read]
        if ahead:
            record = _record(ahead[0])
            assert self.window.admit(record)
            self.open.append(record)
            self.held.append(record)
            self.read = ahead[0] + 1

    @precondition(lambda self: bool(self.open))
    @rule(data=st.data())
    def decide(self, data: st.DataObject) -> None:
        record = data.draw(st.sampled_from(self.open))
        record.resolve(Outcome(Status.SENT, email_id="x"), 1.0)
        self.open.remove(record)

    @precondition(lambda self: bool(self.dropped))
    @rule(data=st.data())
    def decide_late(self, data: st.DataObject) -> None:
        """A result for a revoked assignment changes nothing."""
        data.draw(st.sampled_from(self.dropped)).resolve(Outcome(Status.SENT, email_id="x"), 1.0)

    @precondition(lambda self: self.window is not None)
    @rule(limit=st.integers(1, 5), succeeds=st.booleans())
    def commit(self, limit: int, succeeds: bool) -> None:
        assert self.window is not None
        records = self.window.done_prefix(limit)
        assert all(record.resolution is not None for record in records)
        if records and succeeds:
            self.emitted += [record.record_id.offset for record in records]
            self.committed = self.window.position_after(len(records))
            self.window.committed(len(records), self.committed)
            del self.held[: len(records)]

    @precondition(lambda self: self.window is not None)
    @rule()
    def revoke_or_lose(self) -> None:
        self.dropped = self.open
        self.window = None
        self.open = []

    @invariant()
    def each_record_is_emitted_once_and_in_order(self) -> None:
        assert self.emitted == [offset for offset in self.log if offset < self.committed]

    @invariant()
    def the_counts_follow_from_the_window(self) -> None:
        if self.window is not None:
            assert len(self.window) >= len(self.open)
            assert len(list(self.window.unresolved())) == len(self.open)
            assert self.window.bytes == sum(record.size for record in self.held)


TestPartition = Partition.TestCase
