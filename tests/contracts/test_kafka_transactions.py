"""What transactions do, of a Kafka in memory and of a real one alike."""

import random
from collections.abc import Callable

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from tests.contracts.kafka_clusters import Cluster, make_cluster


@pytest.fixture(params=["fake", "real"])
def cluster(request: pytest.FixtureRequest) -> Cluster:
    return make_cluster(request.param, request)


@pytest.fixture
def producer(cluster: Cluster) -> Producer:
    return _started(cluster)


def _started(cluster: Cluster, name: str = "p") -> Producer:
    made = cluster.producer(name)
    made.init_transactions(30)
    return made


def _error(caught: pytest.ExceptionInfo[KafkaException]) -> KafkaError:
    error = caught.value.args[0]
    assert isinstance(error, KafkaError)
    return error


def _flags(caught: pytest.ExceptionInfo[KafkaException]) -> tuple[int, bool, bool, bool]:
    error = _error(caught)
    return error.code(), error.fatal(), error.retriable(), error.txn_requires_abort()


def _read(
    cluster: Cluster, consumer: Consumer, until: int, partition: int = 0
) -> list[tuple[int, bytes | None]]:
    """Offsets and values of a partition, up to its end at an offset."""
    found: list[tuple[int, bytes | None]] = []

    def is_read() -> bool:
        for message in consumer.consume(10, 0.1):
            if message.partition() != partition:
                continue
            error = message.error()
            if error is None:
                found.append((message.offset() or 0, message.value()))
            else:
                assert error.code() == KafkaError._PARTITION_EOF
                if message.offset() == until:
                    return True
        return False

    cluster.wait_until(is_read, f"the partition ends at {until}")
    return found


def _write(producer: Producer, topic: str, *values: bytes, partition: int = 0) -> None:
    producer.begin_transaction()
    for value in values:
        producer.produce(topic, value, partition=partition)
    producer.commit_transaction(30)


def _committed(consumer: Consumer, topic: str, partition: int = 0) -> tuple[int, str | None]:
    (found,) = consumer.committed([TopicPartition(topic, partition)], 10)
    assert found.error is None
    return found.offset, found.metadata


# Records


def test_committed_records_are_followed_by_a_marker(cluster: Cluster, producer: Producer) -> None:
    topic, reader = cluster.create(2), cluster.reader()
    reader.incremental_assign([TopicPartition(topic, 0, 0)])
    _write(producer, topic, b"a", b"b")
    assert _read(cluster, reader, 3) == [(0, b"a"), (1, b"b")]
    _write(producer, topic, b"c", partition=1)  # which marks that partition alone
    _write(producer, topic, b"d")
    assert _read(cluster, reader, 5) == [(3, b"d")]


def test_aborted_records_are_skipped(cluster: Cluster, producer: Producer) -> None:
    topic, reader = cluster.create(), cluster.reader()
    reader.incremental_assign([TopicPartition(topic, 0, 0)])
    producer.begin_transaction()
    producer.produce(topic, b"a", partition=0)
    producer.flush(10)
    producer.abort_transaction(30)
    _write(producer, topic, b"b")
    assert _read(cluster, reader, 4) == [(2, b"b")]


def test_an_open_transaction_hides_later_records(cluster: Cluster, producer: Producer) -> None:
    topic, reader, other = cluster.create(), cluster.reader(), _started(cluster, "other")
    reader.incremental_assign([TopicPartition(topic, 0, 0)])
    _write(producer, topic, b"a")
    producer.begin_transaction()
    producer.produce(topic, b"open", partition=0)
    producer.flush(10)
    _write(other, topic, b"b")
    assert _read(cluster, reader, 2) == [(0, b"a")]
    assert reader.get_watermark_offsets(TopicPartition(topic, 0), 10) == (0, 2)
    assert reader.get_watermark_offsets(TopicPartition(topic, 0), cached=True) == (0, 5)
    producer.commit_transaction(30)
    assert _read(cluster, reader, 6) == [(2, b"open"), (3, b"b")]


def test_an_empty_transaction_can_end(cluster: Cluster, producer: Producer) -> None:
    topic = cluster.create()
    producer.begin_transaction()
    producer.commit_transaction(30)
    producer.begin_transaction()
    producer.abort_transaction(30)
    _write(producer, topic, b"a")
    reader = cluster.reader()
    reader.incremental_assign([TopicPartition(topic, 0, 0)])
    assert _read(cluster, reader, 2) == [(0, b"a")]


def test_only_failed_deliveries_are_reported(cluster: Cluster, producer: Producer) -> None:
    topic = cluster.create()
    told: list[KafkaError | None] = []

    def note(error: KafkaError | None, message: Message | None) -> None:
        told.append(error)

    producer.begin_transaction()
    producer.produce(topic, b"a", partition=0, on_delivery=note)
    assert producer.flush(10) == 0
    assert len(producer) == 0
    producer.commit_transaction(30)
    assert told == []


# Refused records


def test_a_record_rejected_by_the_broker_fails_its_transaction(
    cluster: Cluster, producer: Producer
) -> None:
    topic = cluster.create(2, limit=1_000)
    told: list[int] = []
    producer.begin_transaction()
    producer.produce(topic, b"small", partition=1)
    producer.produce(
        topic,
        random.Random(0).randbytes(3_000),
        partition=0,
        on_delivery=lambda error, _: told.append(error.code() if error else 0),
    )
    with pytest.raises(KafkaException) as caught:
        producer.commit_transaction(30)
    assert _flags(caught) == (KafkaError.MSG_SIZE_TOO_LARGE, False, False, True)
    producer.poll(0)
    assert told == [KafkaError.MSG_SIZE_TOO_LARGE]
    with pytest.raises(KafkaException) as caught:
        producer.produce(topic, b"late", partition=0)
    assert _flags(caught) == (KafkaError._STATE, False, False, False)
    producer.abort_transaction(30)
    aborts = 1
    # The next records of that partition may have wrong numbers, once: the real client numbers them
    # anew if the abort came before it saw more of the refused one.
    try:
        _write(producer, topic, b"again")
    except KafkaException as exception:
        error = exception.args[0]
        assert error.code() == KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER
        assert error.txn_requires_abort()
        producer.abort_transaction(30)
        aborts = 2
        _write(producer, topic, b"again")
    reader = cluster.reader()
    reader.incremental_assign([TopicPartition(topic, 0, 0)])
    # What was aborted is marked, whether a record of it was written or not.
    assert _read(cluster, reader, aborts + 2) == [(aborts, b"again")]


def test_a_record_rejected_by_the_client_fails_nothing_else(
    cluster: Cluster, producer: Producer
) -> None:
    topic, large = cluster.create(), bytes(11_000_000)
    producer.begin_transaction()
    with pytest.raises(KafkaException) as caught:
        producer.produce(topic, large, partition=0)
    assert _flags(caught) == (KafkaError.MSG_SIZE_TOO_LARGE, False, False, False)
    messages: list[dict[str, object]] = [{"value": large}, {"value": b"a"}]
    assert producer.produce_batch(topic, messages) == 1
    error = messages[0]["_error"]
    assert isinstance(error, KafkaError)
    assert error.code() == KafkaError.MSG_SIZE_TOO_LARGE
    assert "_error" not in messages[1]
    producer.commit_transaction(30)
    reader = cluster.reader()
    reader.incremental_assign([TopicPartition(topic, 0, 0)])
    assert _read(cluster, reader, 2) == [(0, b"a")]


# Offsets


def test_offsets_are_committed_with_their_transaction(cluster: Cluster, producer: Producer) -> None:
    topic, reader = cluster.create(), cluster.reader()
    metadata = reader.consumer_group_metadata()
    assert _committed(reader, topic) == (-1001, None)
    producer.begin_transaction()
    producer.send_offsets_to_transaction([TopicPartition(topic, 0, 5, "note")], metadata, 10)
    producer.abort_transaction(30)
    assert _committed(reader, topic) == (-1001, None)
    producer.begin_transaction()
    producer.send_offsets_to_transaction([TopicPartition(topic, 0, 7, "note")], metadata, 10)
    producer.commit_transaction(30)
    assert _committed(reader, topic) == (7, "note")
    producer.begin_transaction()
    producer.send_offsets_to_transaction([TopicPartition(topic, 0, 8, "")], metadata, 10)
    producer.send_offsets_to_transaction([TopicPartition(topic, 0, 9)], metadata, 10)
    producer.commit_transaction(30)
    assert _committed(reader, topic) == (9, None)


def test_offsets_of_an_open_transaction_are_awaited(cluster: Cluster, producer: Producer) -> None:
    topic, reader = cluster.create(), cluster.reader()
    other = cluster.reader(isolation_level="read_uncommitted")
    metadata = reader.consumer_group_metadata()
    producer.begin_transaction()
    producer.send_offsets_to_transaction([TopicPartition(topic, 0, 5, "note")], metadata, 10)
    with pytest.raises(KafkaException) as caught:
        reader.committed([TopicPartition(topic, 0)], 0.5)
    assert _flags(caught) == (KafkaError._TIMED_OUT, False, False, False)
    assert _committed(other, topic) == (-1001, None)
    producer.commit_transaction(30)
    assert _committed(reader, topic) == _committed(other, topic) == (5, "note")


def test_long_metadata_fails_the_transaction(cluster: Cluster, producer: Producer) -> None:
    topic, reader = cluster.create(), cluster.reader()
    metadata = reader.consumer_group_metadata()
    producer.begin_transaction()
    calls: tuple[Callable[[], object], ...] = (
        lambda: producer.send_offsets_to_transaction(
            [TopicPartition(topic, 0, 5, "x" * 4_096)], metadata, 10
        ),
        lambda: producer.commit_transaction(30),
    )
    for call in calls:
        with pytest.raises(KafkaException) as caught:
            call()
        assert _flags(caught) == (KafkaError.OFFSET_METADATA_TOO_LARGE, False, False, True)
    producer.abort_transaction(30)
    producer.begin_transaction()
    producer.send_offsets_to_transaction([TopicPartition(topic, 0, 5, "x" * 4_095)], metadata, 10)
    producer.commit_transaction(30)
    assert _committed(reader, topic) == (5, "x" * 4_095)


# The order of calls, and whose they are


def test_calls_out_of_order_change_nothing(cluster: Cluster, producer: Producer) -> None:
    topic, metadata = cluster.create(), cluster.reader().consumer_group_metadata()
    calls: tuple[Callable[[], object], ...] = (
        lambda: producer.commit_transaction(10),
        lambda: producer.abort_transaction(10),
        lambda: producer.produce(topic, b"no", partition=0),
        lambda: producer.send_offsets_to_transaction([TopicPartition(topic, 0, 5)], metadata, 10),
    )
    for call in calls:
        with pytest.raises(KafkaException) as caught:
            call()
        assert _flags(caught) == (KafkaError._STATE, False, False, False)
    producer.begin_transaction()
    with pytest.raises(KafkaException) as caught:
        producer.begin_transaction()
    assert _flags(caught) == (KafkaError._STATE, False, False, False)
    producer.produce(topic, b"a", partition=0)
    producer.commit_transaction(30)
    reader = cluster.reader()
    reader.incremental_assign([TopicPartition(topic, 0, 0)])
    assert _read(cluster, reader, 2) == [(0, b"a")]


@pytest.mark.parametrize("call", ["commit", "abort", "offsets"])
def test_a_successor_aborts_and_fences(cluster: Cluster, producer: Producer, call: str) -> None:
    topic, reader = cluster.create(), cluster.reader()
    metadata = reader.consumer_group_metadata()
    producer.begin_transaction()
    producer.produce(topic, b"open", partition=0)
    producer.send_offsets_to_transaction([TopicPartition(topic, 0, 5)], metadata, 10)
    producer.flush(10)
    successor = _started(cluster)
    assert _committed(reader, topic) == (-1001, None)  # at once: nothing is open any more
    _write(successor, topic, b"a")
    reader.incremental_assign([TopicPartition(topic, 0, 0)])
    assert _read(cluster, reader, 4) == [(2, b"a")]
    calls: dict[str, Callable[[], object]] = {
        "commit": lambda: producer.commit_transaction(30),
        "abort": lambda: producer.abort_transaction(30),
        "offsets": lambda: producer.send_offsets_to_transaction(
            [TopicPartition(topic, 0, 6)], metadata, 10
        ),
    }
    with pytest.raises(KafkaException) as caught:
        calls[call]()
    assert _flags(caught) == (KafkaError._FENCED, True, False, False)
    # From then on nothing goes.
    again: tuple[Callable[[], object], ...] = (
        producer.begin_transaction,
        lambda: producer.commit_transaction(10),
        lambda: producer.abort_transaction(10),
    )
    for each in again:
        with pytest.raises(KafkaException) as caught:
            each()
        assert _flags(caught) == (KafkaError._FENCED, True, False, False)
    with pytest.raises(KafkaException) as caught:
        producer.produce(topic, b"no", partition=0)
    assert _flags(caught) == (KafkaError._FATAL, False, False, False)
    _write(successor, topic, b"b")


def test_records_of_a_fenced_producer_are_not_written(cluster: Cluster, producer: Producer) -> None:
    topic, reader = cluster.create(), cluster.reader()
    _write(producer, topic, b"a")
    successor = _started(cluster)
    producer.begin_transaction()
    producer.produce(topic, b"no", partition=0)
    with pytest.raises(KafkaException) as caught:
        producer.commit_transaction(30)
    assert _flags(caught) == (KafkaError._FENCED, True, False, False)
    _write(successor, topic, b"b")
    reader.incremental_assign([TopicPartition(topic, 0, 0)])
    assert _read(cluster, reader, 4) == [(0, b"a"), (2, b"b")]
