"""Readers that share a consumer each get their own records, in order and once, from any thread."""

from collections.abc import Callable
from contextlib import closing
from threading import Event, Thread
from typing import cast

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from streamer.kafka import reading, repeating, shared
from streamer.kafka.properties import reader_properties
from streamer.kafka.reading import PartitionReader
from streamer.kafka.shared import ConsumerShare, SharedConsumer
from streamer.settings import Settings
from tests.kit.fakes.kafka import FakeKafka
from tests.kit.harness import wait_until

A, B, C = ("a", 0), ("b", 0), ("c", 0)
_PROPERTIES = reader_properties(Settings(), "me", "g", read_ahead_kb=1, fetch_bytes=1)
_PATIENCE_S = 10.0


@pytest.fixture
def kafka(monkeypatch: pytest.MonkeyPatch) -> FakeKafka:
    made = FakeKafka({"a": 1, "b": 1, "c": 1})
    made.install(monkeypatch, reading, repeating, shared)
    return made


@pytest.fixture
def readers(kafka: FakeKafka) -> SharedConsumer:
    return SharedConsumer(lambda: cast(Consumer, kafka.consumer(_PROPERTIES)))


def _write(kafka: FakeKafka, partition: tuple[str, int], count: int) -> None:
    kafka.write((partition, str(number).encode(), None, []) for number in range(count))


def _reader(share: ConsumerShare, partition: tuple[str, int], at: int = 0) -> PartitionReader:
    reader = PartitionReader(share, 10)
    reader.start({partition: at})
    return reader


def _values(reader: PartitionReader) -> list[int]:
    return [int(seen.message.value() or b"") for seen in reader.read() if seen.message is not None]


def test_each_gets_its_own_of_one_client(kafka: FakeKafka, readers: SharedConsumer) -> None:
    _write(kafka, A, 15)
    _write(kafka, B, 3)
    with closing(_reader(readers.open(), A)) as a, closing(_reader(readers.open(), B)) as b:
        assert _values(a) == [*range(15)]
        assert _values(b) == [0, 1, 2]
        assert a.positions == {A: 16}
        assert (a.ended, b.ended) == ({A}, {B})
    assert [consumer.is_closed for consumer in kafka.consumers] == [True]


def test_the_client_is_there_as_long_as_anybody_reads(
    kafka: FakeKafka, readers: SharedConsumer
) -> None:
    a, b = readers.open(), readers.open()
    a.close()
    b.consume(1, 0.0)
    b.close()
    with pytest.raises(RuntimeError):
        a.consumer.consume(1, 0.0)
    _write(kafka, A, 1)
    with closing(_reader(readers.open(), A)) as again:
        assert _values(again) == [0]
    assert len(kafka.consumers) == 2


def test_others_wait_for_one_that_is_behind(
    kafka: FakeKafka, readers: SharedConsumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "_MOST_HANDED_OVER", 4)
    a, b = readers.open(), readers.open()
    a.incremental_assign([TopicPartition(*A, 0)])
    _write(kafka, A, 100)
    for _ in range(20):
        assert b.consume(3, 0.0) == []
    assert 4 <= len(a.arrived) <= 6
    read = []
    while found := a.consume(7, 0.0):
        read += [message.value() for message in found if message.error() is None]
        assert b.consume(3, 0.0) == []
    assert read == [str(number).encode() for number in range(100)]


def test_what_has_arrived_of_a_partition_that_was_given_up_is_dropped(
    kafka: FakeKafka, readers: SharedConsumer
) -> None:
    _write(kafka, A, 5)
    other = readers.open()
    with closing(_reader(readers.open(), A)) as reader:
        assert other.consume(10, 0.0) == []
        reader.stop([A])
        reader.start({A: 2})
        assert _values(reader) == [2, 3, 4]


def test_errors_of_the_client_reach_all(kafka: FakeKafka, readers: SharedConsumer) -> None:
    with closing(_reader(readers.open(), A)) as a, closing(_reader(readers.open(), B)) as b:
        kafka.consumers[-1].give(Message(error=KafkaError(KafkaError._ALL_BROKERS_DOWN)))
        for reader in (a, b):
            with pytest.raises(KafkaException):
                reader.read()


def test_a_poll_that_fails_loses_nothing(
    kafka: FakeKafka, readers: SharedConsumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write(kafka, A, 3)
    a, b = readers.open(), readers.open()
    a.incremental_assign([TopicPartition(*A, 0)])
    consume = kafka.consumers[-1].consume

    def fail_for_more(num_messages: int, timeout: float) -> list[Message]:
        if num_messages > 1:
            raise KafkaException(KafkaError(KafkaError._FAIL))
        return consume(num_messages, timeout)

    with monkeypatch.context() as patch:
        patch.setattr(kafka.consumers[-1], "consume", fail_for_more)
        with pytest.raises(KafkaException):
            b.consume(10, 0.0)
    found = a.consume(1, 0.0) + a.consume(10, 0.0)
    assert [message.value() for message in found if not message.error()] == [b"0", b"1", b"2"]


class _Slow:
    """A consumer whose polls end when they are told to, with a message of the partition `A`."""

    def __init__(self) -> None:
        self.begun, self.end = Event(), Event()
        self.polls = 0

    def consume(self, num_messages: int, timeout: float) -> list[Message]:
        del num_messages, timeout
        self.polls += 1
        self.begun.set()
        assert self.end.wait(_PATIENCE_S)
        return [Message(*A, 7, value=b"late")]

    def incremental_assign(self, partitions: object) -> None:
        pass

    def incremental_unassign(self, partitions: object) -> None:
        pass

    def close(self) -> None:
        pass


def _started(call: Callable[[], object]) -> Thread:
    thread = Thread(target=call, daemon=True)
    thread.start()
    return thread


def test_nothing_comes_late_from_a_poll_that_was_on_its_way() -> None:
    slow = _Slow()
    readers = SharedConsumer(lambda: cast(Consumer, slow))
    first, other = readers.open(), readers.open()
    first.incremental_assign([TopicPartition(*A, 0)])
    polling = _started(lambda: other.consume(1, 0.0))
    assert slow.begun.wait(_PATIENCE_S)
    closing_first = _started(first.close)
    closing_first.join(0.05)
    assert closing_first.is_alive()  # or the message would be taken for one of the next share
    slow.end.set()
    closing_first.join(_PATIENCE_S)
    polling.join(_PATIENCE_S)
    again = readers.open()
    again.incremental_assign([TopicPartition(*A, 0)])
    assert not again.arrived


def test_who_wants_the_consumer_alone_comes_before_the_next_poll() -> None:
    slow = _Slow()
    readers = SharedConsumer(lambda: cast(Consumer, slow))
    polls, asks = readers.open(), readers.open()
    polling = _started(lambda: [polls.consume(1, _PATIENCE_S) for _ in range(5)])
    assert slow.begun.wait(_PATIENCE_S)
    polls_before = []

    def ask() -> None:
        with asks.alone():
            polls_before.append(slow.polls)

    asking = _started(ask)
    wait_until(lambda: readers._waiting, _PATIENCE_S, "somebody wants the consumer alone")
    slow.end.set()
    asking.join(_PATIENCE_S)
    assert polls_before == [1]
    polling.join(_PATIENCE_S)
    assert slow.polls == 5


def test_threads_read_at_once(kafka: FakeKafka, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "_MOST_HANDED_OVER", 20)
    readers = SharedConsumer(lambda: cast(Consumer, kafka.consumer(_PROPERTIES)))
    count = 300
    found: dict[tuple[str, int], list[int]] = {A: [], B: [], C: []}
    for partition in found:
        _write(kafka, partition, count)

    def read(partition: tuple[str, int]) -> None:
        with closing(_reader(readers.open(), partition)) as reader:
            while len(found[partition]) < count:
                found[partition] += _values(reader)

    threads = [_started(lambda each=each: read(each)) for each in found]  # type: ignore[misc]
    for thread in threads:
        thread.join(_PATIENCE_S)
    assert found == {each: [*range(count)] for each in found}
    assert all(consumer.is_closed for consumer in kafka.consumers)
