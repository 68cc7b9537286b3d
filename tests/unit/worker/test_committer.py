"""A transaction that does not succeed is tried again, and loses nothing."""

import sys

import pytest
from confluent_kafka import KafkaError, KafkaException

from streamer.flow.breaker import DeadLetterBreaker
from streamer.flow.window import Partition, PartitionWindow
from streamer.kafka import transactions
from streamer.kafka.transactions import TransactionalProducer
from streamer.model.reasons import DeadReason
from streamer.model.record import DeadLetter, Record, RecordId
from streamer.settings import Settings, TopicSettings
from streamer.worker.committer import Committer
from tests.unit.kafka.fake import ABORTABLE, FENCED, TIMED_OUT, FakeProducer

JOINED = b"CGMDv2:" + (3).to_bytes(4, sys.byteorder, signed=True)
LEFT = b"CGMDv2:" + (-1).to_bytes(4, sys.byteorder, signed=True)
WRITTEN = ["begin", "?", "offsets", "commit"]


class CommitterBench:
    """A committer on a fake producer, and a window with one dead letter."""

    def __init__(self, fake: FakeProducer) -> None:
        self.fake = fake
        self.metadata = JOINED
        self.committer = Committer(
            TransactionalProducer(Settings(), "me", "me"),
            TopicSettings(),
            lambda: self.metadata,
            "e",
            4,
            DeadLetterBreaker(1000, 1),
            lambda name: None,
        )
        fake.said.clear()
        self.window = PartitionWindow(0, is_marked=True)
        record = Record(RecordId("t", 0, 0), None, b"?", None, 0.0)
        self.window.admit(record)
        record.resolve(DeadLetter(DeadReason.UNDECODABLE, "not JSON"), 0.0)

    def commit(self) -> bool:
        windows: dict[Partition, PartitionWindow] = {("t", 0): self.window}
        done = self.committer.commit(windows)
        assert done == (len(self.window) == 0)
        return done

    def window_of(self, partition: int, values: list[bytes]) -> PartitionWindow:
        """A window with a dead letter of each value."""
        window = PartitionWindow(0, is_marked=True)
        for offset, value in enumerate(values):
            record = Record(RecordId("t", partition, offset), None, value, None, 0.0)
            window.admit(record)
            record.resolve(DeadLetter(DeadReason.UNDECODABLE, "not JSON"), 0.0)
        return window


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> CommitterBench:
    fake = FakeProducer()
    monkeypatch.setattr(transactions, "Producer", fake)
    return CommitterBench(fake)


def test_a_full_client_queue_is_awaited(desk: CommitterBench) -> None:
    desk.fake.fail("produce", BufferError("Local: Queue full"))
    assert not desk.commit()
    assert desk.commit()
    assert desk.fake.said == ["begin", "?", "abort", *WRITTEN]


def test_aborted_records_are_written_again(desk: CommitterBench) -> None:
    desk.fake.fail("offsets", ABORTABLE)
    desk.fake.fail("abort", TIMED_OUT)
    assert not desk.commit()
    assert not desk.commit()
    assert desk.commit()
    assert desk.fake.said == ["begin", "?", "offsets", "abort", "abort", *WRITTEN]


def test_an_open_transaction_is_aborted_without_new_work(
    desk: CommitterBench,
) -> None:
    """The next owner of the partitions waits for its end."""
    desk.fake.fail("offsets", ABORTABLE)
    assert not desk.commit()
    desk.metadata = LEFT
    assert not desk.commit()
    assert desk.fake.said == ["begin", "?", "offsets", "abort"]


def test_an_unknown_commit_is_repeated_first(desk: CommitterBench) -> None:
    desk.fake.fail("commit", TIMED_OUT)
    assert not desk.commit()
    desk.metadata = LEFT
    assert desk.commit()
    assert desk.fake.said == [*WRITTEN, "commit"]


def test_a_commit_that_failed_after_all_is_written_again(desk: CommitterBench) -> None:
    desk.fake.fail("commit", TIMED_OUT, ABORTABLE)
    assert not desk.commit()
    assert not desk.commit()
    assert desk.commit()
    assert desk.fake.said == [*WRITTEN, "commit", "abort", *WRITTEN]


@pytest.mark.parametrize(
    ("call", "error"),
    [("begin", FENCED), ("commit", FENCED), ("commit", KafkaError(KafkaError._STATE))],
)
def test_a_lost_producer_ends_the_worker(
    desk: CommitterBench, call: str, error: KafkaError
) -> None:
    desk.fake.fail(call, error)
    with pytest.raises(KafkaException):
        desk.commit()
    assert len(desk.window) == 1
    desk.committer.close()
    assert "abort" not in desk.fake.said


def test_closing_aborts_an_open_transaction(desk: CommitterBench) -> None:
    desk.fake.fail("offsets", ABORTABLE)
    assert not desk.commit()
    desk.committer.close()
    assert desk.fake.said[-1] == "abort"


def test_no_transaction_begins_outside_the_group(desk: CommitterBench) -> None:
    desk.metadata = LEFT
    assert not desk.commit()
    assert desk.fake.said == []


def test_a_transaction_is_limited_in_bytes(desk: CommitterBench) -> None:
    """Of all windows together: the client would hold them twice, and the broker's limit on the
    time of a transaction is short."""
    large = [b"%d" % number * 1_000_000 for number in range(3)]
    windows: dict[Partition, PartitionWindow] = {
        ("t", 0): desk.window_of(0, large),
        ("t", 1): desk.window_of(1, [*large, b"small"]),
    }
    left = []
    for _ in range(2):
        assert desk.committer.commit(windows)
        left.append([len(window) for window in windows.values()])
    # A record counts with what it takes in memory, about twice its value: four fill a transaction.
    assert left == [[0, 3], [0, 0]]
    assert [said for said in desk.fake.said if said in ("begin", "commit")] == [
        "begin",
        "commit",
    ] * 2
