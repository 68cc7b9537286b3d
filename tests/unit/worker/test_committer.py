"""A transaction that does not succeed is tried again, and loses nothing."""

import sys
from typing import cast

from confluent_kafka import Producer

from streamer.flow.breaker import Breaker
from streamer.flow.window import Partition, PartitionWindow
from streamer.model.reasons import DeadReason
from streamer.model.record import Coordinates, DeadLetter, Record
from streamer.settings import Topics
from streamer.worker.committer import Committer

JOINED = b"CGMDv2:" + (3).to_bytes(4, sys.byteorder, signed=True)


class FullProducer:
    """Its queue is full at first."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.is_full = True

    def begin_transaction(self) -> None:
        self.said.append("begin")

    def produce(self, topic: str, *args: object, **options: object) -> None:
        if self.is_full:
            raise BufferError("Local: Queue full")
        self.said.append(topic)

    def produce_batch(self, topic: str, outcomes: list[object]) -> None:
        assert not outcomes

    def send_offsets_to_transaction(self, *args: object) -> None:
        self.said.append("offsets")

    def commit_transaction(self, *args: object) -> None:
        self.said.append("commit")

    def abort_transaction(self, *args: object) -> None:
        self.said.append("abort")
        self.is_full = False

    def poll(self, timeout_s: float) -> int:
        return 0


def test_a_full_queue_of_the_client_is_waited_for() -> None:
    producer, topics = FullProducer(), Topics()
    committer = Committer(
        cast(Producer, producer),
        topics,
        lambda: JOINED,
        "e",
        4,
        Breaker(1000, 1),
        lambda name: None,
    )
    window = PartitionWindow(0, is_marked=True)
    record = Record(Coordinates("t", 0, 0), None, b"?", None, 0.0)
    window.admit(record)
    record.end(DeadLetter(DeadReason.UNDECODABLE, "not JSON"), 0.0)
    windows: dict[Partition, PartitionWindow] = {("t", 0): window}
    assert not committer.commit(windows)
    assert len(window) == 1
    assert committer.commit(windows)
    assert producer.said == ["begin", "abort", "begin", topics.dead_letters, "offsets", "commit"]
    assert len(window) == 0
