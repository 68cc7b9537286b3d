"""What consumers do, of a Kafka in memory and of a real one alike: reading, and groups."""

from collections.abc import Callable
from contextlib import closing

import pytest
from confluent_kafka import (
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicCollection,
    TopicPartition,
)

from streamer.kafka.offsets import EARLIEST, LATEST, OffsetsQuestion, generation
from tests.contracts.kafka_clusters import Cluster, make_cluster


@pytest.fixture(params=["fake", "real"])
def cluster(request: pytest.FixtureRequest) -> Cluster:
    return make_cluster(request.param, request)


@pytest.fixture(params=["classic", "consumer"])
def protocol(request: pytest.FixtureRequest) -> str:
    """The protocol of groups; the one in memory has no other for `consumer`."""
    return str(request.param)


@pytest.fixture(params=["fake", "real"])
def groups(request: pytest.FixtureRequest, protocol: str) -> Cluster:
    """A cluster for groups, with each protocol of theirs."""
    return make_cluster(request.param, request, protocol)


def _write(cluster: Cluster, topic: str, *values: bytes, partition: int = 0) -> None:
    producer = _producer(cluster)
    producer.begin_transaction()
    for value in values:
        producer.produce(topic, value, partition=partition)
    producer.commit_transaction(30)


def _producer(cluster: Cluster, name: str = "p") -> Producer:
    made = cluster.producer(name)
    made.init_transactions(30)
    return made


class _Reading:
    """What consumers gave so far, by partition."""

    def __init__(self, *consumers: Consumer) -> None:
        self._consumers = consumers
        self.values: dict[int, list[bytes | None]] = {}
        self.ends: list[tuple[int, int]] = []
        self.errors: list[int] = []

    def poll(self) -> None:
        for consumer in self._consumers:
            for message in consumer.consume(10, 0.05):
                error = message.error()
                if error is None:
                    self.values.setdefault(message.partition() or 0, []).append(message.value())
                elif error.code() == KafkaError._PARTITION_EOF:
                    self.ends.append((message.partition() or 0, message.offset() or 0))
                else:
                    self.errors.append(error.code())

    def until(self, cluster: Cluster, condition: Callable[[], object], what: str) -> None:
        def is_met() -> bool:
            self.poll()
            return bool(condition())

        cluster.wait_until(is_met, what)


# By hand


def test_a_reader_continues_and_reports_each_end(cluster: Cluster) -> None:
    topic, reader = cluster.create(2), cluster.reader()
    _write(cluster, topic, b"a", b"b", b"c")
    reading = _Reading(reader)
    reader.incremental_assign([TopicPartition(topic, 0, 1)])
    reading.until(cluster, lambda: (0, 4) in reading.ends, "its end")
    assert reading.values == {0: [b"b", b"c"]}
    reader.incremental_assign([TopicPartition(topic, 1, 0)])
    _write(cluster, topic, b"d", partition=1)
    reading.until(cluster, lambda: (1, 2) in reading.ends, "the other's end")
    _write(cluster, topic, b"e")
    reading.until(cluster, lambda: (0, 6) in reading.ends, "its end again")
    assert reading.values == {0: [b"b", b"c", b"e"], 1: [b"d"]}
    reader.incremental_unassign([TopicPartition(topic, 0)])
    _write(cluster, topic, b"f")
    _write(cluster, topic, b"g", partition=1)
    reading.until(cluster, lambda: (1, 4) in reading.ends, "the other's end again")
    assert reading.values == {0: [b"b", b"c", b"e"], 1: [b"d", b"g"]}


def test_assigning_twice_is_an_error(cluster: Cluster) -> None:
    topic, reader = cluster.create(2), cluster.reader()
    reader.incremental_assign([TopicPartition(topic, 0, 0)])
    with pytest.raises(KafkaException) as caught:
        reader.incremental_assign([TopicPartition(topic, 0, 0)])
    assert caught.value.args[0].code() == KafkaError._CONFLICT
    with pytest.raises(KafkaException) as caught:
        reader.incremental_unassign([TopicPartition(topic, 1)])
    assert caught.value.args[0].code() == KafkaError._INVALID_ARG
    reader.incremental_assign([])
    reader.incremental_unassign([])
    assert [each.partition for each in reader.assignment()] == [0]


def test_a_deleted_offset_starts_at_the_first_record_left(cluster: Cluster) -> None:
    topic, reader, admin = cluster.create(), cluster.reader(), cluster.admin()
    _write(cluster, topic, b"a", b"b", b"c")
    (future,) = admin.delete_records([TopicPartition(topic, 0, 2)]).values()
    assert future.result().low_watermark == 2
    (future,) = admin.delete_records([TopicPartition(topic, 0, 9)]).values()
    with pytest.raises(KafkaException) as caught:
        future.result()
    assert caught.value.args[0].code() == KafkaError.OFFSET_OUT_OF_RANGE
    assert reader.get_watermark_offsets(TopicPartition(topic, 0), 10) == (2, 4)
    reader.incremental_assign([TopicPartition(topic, 0, 0)])
    reading = _Reading(reader)
    reading.until(cluster, lambda: (0, 4) in reading.ends, "its end")
    assert reading.values == {0: [b"c"]}


@pytest.mark.parametrize("offset", [0, 9])
def test_an_offset_that_does_not_exist_is_reported_if_none_shall_take_its_place(
    cluster: Cluster, offset: int
) -> None:
    topic, reader = cluster.create(), cluster.reader(auto_offset_reset="error")
    _write(cluster, topic, b"a", b"b", b"c")
    (future,) = cluster.admin().delete_records([TopicPartition(topic, 0, 2)]).values()
    future.result()
    reader.incremental_assign([TopicPartition(topic, 0, offset)])
    found: list[Message] = []

    def is_told() -> bool:
        found.extend(reader.consume(9, 0.05))
        return bool(found)

    cluster.wait_until(is_told, "it is told")
    (told,) = found
    error = told.error()
    assert error is not None
    assert error.code() == KafkaError._AUTO_OFFSET_RESET
    assert (told.topic(), told.partition(), told.offset()) == (topic, 0, offset)
    reader.incremental_unassign([TopicPartition(topic, 0)])
    reader.incremental_assign([TopicPartition(topic, 0, 2)])
    reading = _Reading(reader)
    reading.until(cluster, lambda: (0, 4) in reading.ends, "its end")
    assert reading.values == {0: [b"c"]}
    assert reading.errors == []


def test_first_and_last_offsets(cluster: Cluster) -> None:
    topic, reader, admin = cluster.create(2), cluster.reader(), cluster.admin()
    _write(cluster, topic, b"a", b"b")
    producer = _producer(cluster, "other")
    producer.begin_transaction()
    producer.produce(topic, b"open", partition=0)
    producer.flush(10)
    place = (topic, 0)
    uncommitted, committed = IsolationLevel.READ_UNCOMMITTED, IsolationLevel.READ_COMMITTED
    assert OffsetsQuestion(admin, [place], EARLIEST).answer() == {place: 0}
    assert OffsetsQuestion(admin, [place], LATEST, uncommitted).answer() == {place: 4}
    assert OffsetsQuestion(admin, [place], LATEST, committed).answer() == {place: 3}
    asked = [(0, -2), (0, -1), (1, -1), (0, 0)]
    found = reader.offsets_for_times([TopicPartition(topic, *each) for each in asked[:1]], 10)
    assert [each.offset for each in found] == [0]
    found = reader.offsets_for_times([TopicPartition(topic, *each) for each in asked[1:3]], 10)
    assert [each.offset for each in found] == [3, 0]
    found = reader.offsets_for_times([TopicPartition(topic, *each) for each in asked[3:]], 10)
    assert [each.offset for each in found] == [0]
    producer.abort_transaction(30)


def test_topic_metadata(cluster: Cluster) -> None:
    topic, reader, admin = cluster.create(3), cluster.reader(), cluster.admin()
    found = reader.list_topics(topic, 10).topics
    assert [*found] == [topic]
    assert sorted(found[topic].partitions) == [0, 1, 2]
    assert {each.leader for each in found[topic].partitions.values()} == {1}
    assert found[topic].error is None
    assert topic in admin.list_topics(timeout=10).topics
    unknown = reader.list_topics("no-such-topic", 10).topics["no-such-topic"]
    assert unknown.error is not None
    assert unknown.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART
    assert "no-such-topic" not in reader.list_topics(timeout=10).topics
    described = admin.describe_topics(TopicCollection([topic, "no-such-topic"]))
    first = str(described[topic].result().topic_id)
    assert str(admin.describe_topics(TopicCollection([topic]))[topic].result().topic_id) == first
    with pytest.raises(KafkaException) as caught:
        described["no-such-topic"].result()
    assert caught.value.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART


def test_a_closed_consumer_raises(cluster: Cluster) -> None:
    topic, member = cluster.create(), cluster.member()
    member.close()
    with pytest.raises(RuntimeError):
        member.consume(1, 0.0)
    with pytest.raises(RuntimeError):
        member.committed([TopicPartition(topic, 0)], 1)


# Groups


class _Member:
    """A member that takes what it is given only when it is told to, as streamer's source."""

    def __init__(self, cluster: Cluster, topic: str, **properties: str | int) -> None:
        self.consumer = cluster.member(**properties)
        self._topic = topic
        self.given: set[int] = set()
        self.read: set[int] = set()
        self.revoked: list[set[int]] = []
        self.lost: list[set[int]] = []
        self.generations: list[int] = []
        """At each revocation."""
        self.consumer.subscribe(
            [topic], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost
        )

    @property
    def generation(self) -> int:
        return generation(self.consumer.consumer_group_metadata())

    def take(self, *numbers: int, offset: int = 0) -> None:
        self.consumer.incremental_assign([TopicPartition(self._topic, n, offset) for n in numbers])
        self.read |= {*numbers}

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self.given |= {each.partition for each in partitions}
        consumer.incremental_assign([])

    def _revoked(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self.generations.append(generation(consumer.consumer_group_metadata()))
        self.revoked.append(self._drop(partitions))

    def _lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self.lost.append(self._drop(partitions))

    def _drop(self, partitions: list[TopicPartition]) -> set[int]:
        gone = {each.partition for each in partitions}
        self.consumer.incremental_unassign(
            [TopicPartition(self._topic, number) for number in gone & self.read]
        )
        self.given -= gone
        self.read -= gone
        return gone


def _joined(cluster: Cluster, topic: str, partitions: int, **properties: str | int) -> _Member:
    member = _Member(cluster, topic, **properties)
    assert member.generation < 0
    reading = _Reading(member.consumer)
    reading.until(cluster, lambda: len(member.given) == partitions, "it has all partitions")
    assert member.generation >= 0
    return member


def test_a_member_reads_only_what_it_assigns(groups: Cluster) -> None:
    topic = groups.create(3)
    for partition in range(3):
        _write(groups, topic, b"a", b"b", partition=partition)
    member = _joined(groups, topic, 3)
    reading = _Reading(member.consumer)
    for _ in range(5):
        reading.poll()
    assert reading.values == {}
    member.take(0)
    member.take(2, offset=1)
    reading.until(groups, lambda: len(reading.values) == 2, "what it asked for")
    for _ in range(5):
        reading.poll()
    assert reading.values == {0: [b"a", b"b"], 2: [b"b"]}
    assert reading.ends == []


def test_positions_pass_markers(groups: Cluster) -> None:
    topic = groups.create(2)
    _write(groups, topic, b"a")
    member = _joined(groups, topic, 2)
    member.take(0, 1)
    both = [TopicPartition(topic, 0), TopicPartition(topic, 1)]

    def positions() -> list[int]:
        return [each.offset for each in member.consumer.position(both)]

    reading = _Reading(member.consumer)
    reading.until(groups, lambda: positions() == [2, -1001], "the marker is passed")
    producer = _producer(groups)
    producer.begin_transaction()
    producer.produce(topic, b"no", partition=0)
    producer.flush(10)
    producer.abort_transaction(30)
    reading.until(groups, lambda: positions() == [4, -1001], "what was aborted is passed")
    assert reading.values == {0: [b"a"]}


def test_a_pause_outlives_the_assignment_and_loses_nothing(groups: Cluster) -> None:
    topic = groups.create(2)
    _write(groups, topic, b"a", b"b")
    member = _joined(groups, topic, 2)
    member.take(0, 1)
    reading = _Reading(member.consumer)
    reading.until(groups, lambda: reading.values == {0: [b"a", b"b"]}, "what is there")
    member.consumer.pause(member.consumer.assignment())
    _write(groups, topic, b"c")
    for _ in range(5):
        reading.poll()
    assert reading.values == {0: [b"a", b"b"]}
    member.consumer.incremental_unassign([TopicPartition(topic, 0)])
    member.consumer.incremental_assign([TopicPartition(topic, 0, 1)])
    for _ in range(5):
        reading.poll()
    assert reading.values == {0: [b"a", b"b"]}
    member.consumer.resume([TopicPartition(topic, 0)])
    reading.until(groups, lambda: len(reading.values[0]) == 4, "it goes on")
    assert reading.values == {0: [b"a", b"b", b"b", b"c"]}


def test_a_second_member_gets_unread_partitions_too(groups: Cluster) -> None:
    topic = groups.create(4)
    first = _joined(groups, topic, 4)
    first.take(0, 2)
    before = first.generation
    second = _Member(groups, topic)
    reading = _Reading(first.consumer, second.consumer)
    reading.until(groups, lambda: len(second.given) == 2, "the second has its share")
    (revoked,) = first.revoked
    assert revoked == second.given
    assert first.given == {0, 1, 2, 3} - revoked
    assert first.lost == second.lost == []
    reading.until(groups, lambda: first.generation == second.generation, "both know")
    assert first.generation > before
    assert first.generations[0] >= before
    # What the first kept goes on.
    for partition in range(4):
        _write(groups, topic, b"a", partition=partition)
    second.take(*second.given)
    reading.until(groups, lambda: reading.values.keys() == first.read | second.read, "both read on")
    # Who leaves gives everything up, to those who stay.
    second.consumer.close()
    assert second.revoked == [revoked]
    reading = _Reading(first.consumer)
    reading.until(groups, lambda: len(first.given) == 4, "the first has all again")


def test_closing_revokes_everything(groups: Cluster) -> None:
    topic = groups.create(2)
    member = _joined(groups, topic, 2)
    member.take(1)
    member.consumer.close()
    assert member.revoked == [{0, 1}]
    assert member.generations[0] >= 0


def test_unsubscribing_revokes_everything_and_leaves(groups: Cluster) -> None:
    topic = groups.create(2)
    member = _joined(groups, topic, 2)
    member.take(1)
    assert member.consumer.memberid()
    member.consumer.unsubscribe()

    def has_left() -> object:
        member.consumer.poll(0.05)
        # In the `consumer` protocol the id is the client's own, and stays.
        return member.revoked and (is_own or not member.consumer.memberid())

    is_own = groups.protocol == "consumer"
    groups.wait_until(has_left, "it left")
    assert member.revoked == [{0, 1}]
    member.consumer.close()
    assert member.revoked == [{0, 1}]


# Which offsets a broker accepts


def _offer(producer: Producer, topic: str, metadata: object, partition: int = 0) -> int:
    """Commit an offset; returns the error's code, or 0."""
    producer.begin_transaction()
    try:
        producer.send_offsets_to_transaction([TopicPartition(topic, partition, 1)], metadata, 10)
        producer.commit_transaction(30)
    except KafkaException as exception:
        producer.abort_transaction(30)
        return int(exception.args[0].code())
    return 0


def test_a_stale_generation_cannot_commit_revoked_partitions(groups: Cluster) -> None:
    topic, producer = groups.create(2), _producer(groups)
    first = _joined(groups, topic, 2)
    stale = first.consumer.consumer_group_metadata()
    second = _Member(groups, topic)
    reading = _Reading(first.consumer, second.consumer)
    reading.until(groups, lambda: len(second.given) == 1, "the second has its share")
    reading.until(groups, lambda: first.generation == second.generation, "both know")
    (revoked,) = second.given
    assert _offer(producer, topic, stale, revoked) in (
        KafkaError.ILLEGAL_GENERATION,
        KafkaError.STALE_MEMBER_EPOCH,
    )
    assert _offer(producer, topic, first.consumer.consumer_group_metadata()) == 0


def test_a_former_member_cannot_commit(groups: Cluster) -> None:
    topic, producer = groups.create(2), _producer(groups)
    first = _joined(groups, topic, 2)
    stale = first.consumer.consumer_group_metadata()
    first.consumer.close()
    assert _offer(producer, topic, stale) == KafkaError.UNKNOWN_MEMBER_ID


def test_a_negative_generation_is_not_fenced(cluster: Cluster) -> None:
    """So a negative generation must never be sent where a member is meant."""
    topic, producer = cluster.create(2), _producer(cluster)
    stranger = cluster.member().consumer_group_metadata()
    assert generation(stranger) < 0
    with closing(_joined(cluster, topic, 2).consumer):
        assert _offer(producer, topic, stranger) == 0


def test_a_member_that_stops_polling_loses_its_partitions(cluster: Cluster) -> None:
    topic, producer = cluster.create(2), _producer(cluster)
    member = _joined(cluster, topic, 2, max_poll_interval_ms=3_000)
    member.take(0)
    stale = member.consumer.consumer_group_metadata()
    before = member.generation
    cluster.let_expire(member.consumer)
    cluster.wait_until(
        lambda: _offer(producer, topic, stale) == KafkaError.UNKNOWN_MEMBER_ID, "it is no member"
    )
    assert member.generation == before  # it does not know yet
    reading = _Reading(member.consumer)
    reading.until(cluster, lambda: member.given == {0, 1} and member.lost, "it joined again")
    assert member.lost == [{0, 1}]
    assert member.revoked == []
    assert member.read == set()
    assert member.generation > before
    assert reading.errors == [KafkaError._MAX_POLL_EXCEEDED]
