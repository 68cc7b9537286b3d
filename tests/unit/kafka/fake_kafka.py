"""A Kafka in memory: topics with transactions and their markers, for readers and one producer."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from types import SimpleNamespace

from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition

from streamer.model.record import Headers

Partition = tuple[str, int]
Delivered = Callable[[KafkaError | None, Message | None], None]

_TOO_LARGE = KafkaError(KafkaError.MSG_SIZE_TOO_LARGE, "too large", False, False, False)
_FAILED = KafkaError(KafkaError._PURGE_QUEUE, "a record was not delivered", False, False, True)
_END = KafkaError(KafkaError._PARTITION_EOF)


class FakeKafka:
    """Stands for the client library's `Producer`, `Consumer` and `AdminClient`.

    Attributes:
        logs: the committed records of each partition.
        ends: where each ends.
        limits: by topic, how large a record may be.
        committed: the group's offsets.
        errors: what is answered for partitions instead of their offset.
        aborted: how many transactions were.
        largest_read: how many records a consumer gave at once.
    """

    def __init__(self, topics: Mapping[str, int]) -> None:
        self.topics = topics
        self.logs: dict[Partition, list[Message]] = {
            (topic, number): [] for topic, count in topics.items() for number in range(count)
        }
        self.ends = dict.fromkeys(self.logs, 0)
        self.limits: dict[str, int] = {}
        self.committed: dict[Partition, TopicPartition] = {}
        self.errors: dict[Partition, KafkaError] = {}
        self.aborted = 0
        self.largest_read = 0

    def write(
        self, records: Iterable[tuple[Partition, bytes | None, bytes | None, Headers]]
    ) -> None:
        """Append records in one transaction: a marker stands behind them in each partition."""
        written: set[Partition] = set()
        for partition, value, key, headers in records:
            message = Message(*partition, self.ends[partition], key, value)
            message.set_headers(headers)
            self.logs[partition].append(message)
            self.ends[partition] += 1
            written.add(partition)
        for partition in written:
            self.ends[partition] += 1

    def values(self, topic: str) -> list[bytes | None]:
        """What stands in a topic."""
        return [m.value() for (name, _), log in self.logs.items() if name == topic for m in log]

    def producer(self, properties: object, **client: object) -> "FakeTransactions":
        return FakeTransactions(self)

    def consumer(self, properties: object, **client: object) -> "FakeReader":
        return FakeReader(self)

    def list_topics(self, *_: object, timeout: float = 0.0) -> SimpleNamespace:
        return SimpleNamespace(
            topics={
                topic: SimpleNamespace(partitions=range(count), error=None)
                for topic, count in self.topics.items()
            }
        )


class FakeTransactions:
    """A transactional producer."""

    def __init__(self, kafka: FakeKafka) -> None:
        self._kafka = kafka
        self.list_topics = kafka.list_topics
        self._written: list[tuple[Partition, bytes | None, bytes | None, Headers]] = []
        self._offsets: list[TopicPartition] = []
        self._refused: list[Delivered] = []
        self._has_failed = False

    def init_transactions(self, timeout: float) -> None:
        pass

    def begin_transaction(self) -> None:
        self._written, self._offsets = [], []

    def produce(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None,
        partition: int,
        on_delivery: Delivered,
        headers: Headers,
    ) -> None:
        size = len(value or b"") + len(key or b"")
        size += sum(len(name) + len(text or b"") for name, text in headers)
        if size > self._kafka.limits.get(topic, size):
            self._refused.append(on_delivery)
            self._has_failed = True
        self._written.append(((topic, max(0, partition)), value, key, headers))

    def send_offsets_to_transaction(
        self, offsets: list[TopicPartition], metadata: object, timeout: float
    ) -> None:
        self._offsets = offsets

    def commit_transaction(self, timeout: float) -> None:
        if self._has_failed:
            raise KafkaException(_FAILED)
        self._kafka.write(self._written)
        self._kafka.committed |= {(each.topic, each.partition): each for each in self._offsets}

    def abort_transaction(self, timeout: float) -> None:
        self._has_failed = False
        self._kafka.aborted += 1

    def poll(self, timeout: float) -> int:
        refused, self._refused = self._refused, []
        for delivered in refused:
            delivered(_TOO_LARGE, None)
        return len(refused)

    def __len__(self) -> int:
        return len(self._refused)

    def __bool__(self) -> bool:
        return True


class FakeReader:
    """A consumer that is assigned by hand, and shows where partitions end."""

    def __init__(self, kafka: FakeKafka) -> None:
        self._kafka = kafka
        self.list_topics = kafka.list_topics
        self._positions: dict[Partition, int] = {}
        self._ended: defaultdict[Partition, int] = defaultdict(lambda: -1)

    def incremental_assign(self, partitions: Iterable[TopicPartition]) -> None:
        for each in partitions:
            assert (each.topic, each.partition) not in self._positions
            self._positions[each.topic, each.partition] = max(0, each.offset)

    def incremental_unassign(self, partitions: Iterable[TopicPartition]) -> None:
        for each in partitions:
            del self._positions[each.topic, each.partition]
            self._ended.pop((each.topic, each.partition), None)

    def consume(self, count: int, timeout: float) -> list[Message]:
        found: list[Message] = []
        for partition, at in self._positions.items():
            log = [m for m in self._kafka.logs[partition] if (m.offset() or 0) >= at]
            taken = log[: count - len(found)]
            found += taken
            if taken:
                self._positions[partition] = (taken[-1].offset() or 0) + 1
            end = self._kafka.ends[partition]
            if len(taken) == len(log) and self._ended[partition] < end and len(found) < count:
                self._ended[partition] = self._positions[partition] = end
                found.append(Message(*partition, end, error=_END))
        self._kafka.largest_read = max(self._kafka.largest_read, len(found))
        return found

    def committed(self, asked: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        answers = []
        for each in asked:
            place = (each.topic, each.partition)
            answer = self._kafka.committed.get(place) or TopicPartition(*place, -1001)
            if place in self._kafka.errors:
                answer = with_error(place, self._kafka.errors[place])
            answers.append(answer)
        return answers

    def get_watermark_offsets(self, partition: TopicPartition, timeout: float) -> tuple[int, int]:
        return 0, self._kafka.ends[partition.topic, partition.partition]

    def consumer_group_metadata(self) -> None:
        return None

    def close(self) -> None:
        pass


def with_error(place: Partition, error: KafkaError) -> TopicPartition:
    """As the client library gives it: no test can set its `error`."""

    class FailedPartition(TopicPartition):
        @property
        def error(self) -> KafkaError:  # type: ignore[override]  # a member there
            return error

    return FailedPartition(*place, -1001)
