"""The cluster: topics, transactions, groups, and how its brokers answer."""

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from enum import Enum, auto
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import pytest
from confluent_kafka import KafkaError, Message, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # public, yet not re-exported
    BrokerMetadata,
    ClusterMetadata,
    PartitionMetadata,
    TopicMetadata,
)

from streamer.model.record import Headers
from tests.kit.fakes.kafka.clock import KafkaClock
from tests.kit.fakes.kafka.groups import FakeGroup, group_of
from tests.kit.fakes.kafka.log import End, Log, Partition, Stored, Transaction, message

if TYPE_CHECKING:
    from tests.kit.fakes.kafka.admin import FakeAdminClient
    from tests.kit.fakes.kafka.consumer import FakeConsumer
    from tests.kit.fakes.kafka.producer import FakeProducer

T = TypeVar("T")

MAX_METADATA = 4_095
"""What a broker accepts with `offset.metadata.max.bytes` at its default of 4,096."""

_BACKOFF_S = 0.5
# What librdkafka repeats within the time limit of a call.
_RETRIED = (
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
    KafkaError.CONCURRENT_TRANSACTIONS,
)


class KafkaApi(Enum):
    """A request of a client, whose answer a test may choose."""

    INIT_PRODUCER_ID = auto()
    PRODUCE = auto()
    ADD_OFFSETS = auto()
    COMMIT_OFFSETS = auto()
    END_TRANSACTION = auto()
    FETCH_OFFSETS = auto()
    LIST_OFFSETS = auto()
    METADATA = auto()
    DELETE_RECORDS = auto()


class Silence(Enum):
    """No answer comes within the time limit of the call."""

    UNHEARD = auto()
    """The request did not arrive."""
    UNANSWERED = auto()
    """What was asked for is done."""


Answer = int | Silence


class BrokerError(Exception):
    """A broker answered with an error.

    Attributes:
        code: the error's code.
    """

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class NoAnswerError(Exception):
    """The time limit of a call is over.

    Attributes:
        code: of the last error that could be retried; None if there was no answer.
    """

    def __init__(self, code: int | None) -> None:
        super().__init__(code)
        self.code = code


class _Identity(NamedTuple):
    """What the coordinator knows of a transactional id."""

    epoch: int
    timeout_s: float
    open: Transaction | None


class FakeKafka:
    """A cluster in memory.

    Attributes:
        clock: the time, which passes while calls wait.
        calls: what producers were told to do, by name; of a record, its value.
        limits: by topic, how large a batch may be.
        leaderless: the partitions without a leader.
        errors: what is answered for partitions instead of their committed offset.
        is_down: whether nobody answers.
        answers: what is left of what `answer` was told, by request.
        producers, consumers: all that were made.
    """

    def __init__(self, topics: Mapping[str, int]) -> None:
        self.clock = KafkaClock()
        self.calls: list[str] = []
        self.logs: dict[Partition, Log] = {}
        self.topic_ids: dict[str, str] = {}
        self.limits: dict[str, int] = {}
        self.leaderless: set[Partition] = set()
        self.errors: dict[Partition, KafkaError] = {}
        self.is_down = False
        self.producers: list[FakeProducer] = []
        self.consumers: list[FakeConsumer] = []
        self._groups: dict[str, FakeGroup] = {}
        self._identities: dict[str, _Identity] = {}
        self.answers: defaultdict[KafkaApi, deque[Answer]] = defaultdict(deque)
        for topic, partitions in topics.items():
            self.create(topic, partitions)

    # What a test does

    def create(self, topic: str, partitions: int, limit: int | None = None) -> None:
        """Create a topic, or more partitions of it."""
        self.topic_ids.setdefault(topic, f"id of {topic}")
        for number in range(partitions):
            self.logs.setdefault((topic, number), Log())
        if limit is not None:
            self.limits[topic] = limit

    def answer(self, request: KafkaApi, *answers: Answer) -> None:
        """Answer the next requests of a kind with error codes (0: none), or not at all."""
        self.answers[request] += answers

    def write(
        self, records: Iterable[tuple[Partition, bytes | None, bytes | None, Headers]]
    ) -> None:
        """Append records in one committed transaction, each a partition, value, key, headers."""
        transaction = Transaction(self.clock.now)
        for partition, value, key, headers in records:
            self._store(partition, Stored(key, value, headers, self._now_ms, transaction))
        self._end(transaction, End.COMMITTED)

    def committed(self, topic: str) -> dict[Partition, dict[int, Stored]]:
        """What a reader of committed records sees of a topic, by partition and offset."""
        return {p: log.committed() for p, log in self.logs.items() if p[0] == topic}

    def values(self, topic: str) -> list[bytes | None]:
        """The values that a reader of committed records sees of a topic."""
        return [s.value for each in self.committed(topic).values() for s in each.values()]

    def messages(self, partition: Partition) -> list[Message]:
        """The committed records of a partition, as a consumer gives them."""
        committed = self.logs[partition].committed()
        return [message(partition, offset, stored) for offset, stored in committed.items()]

    def group(self, name: str) -> FakeGroup:
        """A group, whether it has members or not."""
        return self._groups.setdefault(name, FakeGroup(name, self.logs.keys()))

    def install(self, patch: pytest.MonkeyPatch, *modules: ModuleType) -> None:
        """Put this cluster's clients, and its clock, into modules, until the test is over."""
        for module in modules:
            for name, stand_in in {
                "Producer": self.producer,
                "Consumer": self.consumer,
                "AdminClient": self.admin,
                "time": self.clock,
            }.items():
                if hasattr(module, name):
                    patch.setattr(module, name, stand_in)

    # Its clients

    def producer(self, config: Mapping[str, object], **client: object) -> "FakeProducer":
        """Stands for the class `Producer`."""
        from tests.kit.fakes.kafka.producer import FakeProducer

        self.producers.append(FakeProducer(self, config))
        return self.producers[-1]

    def consumer(self, config: Mapping[str, object], **client: object) -> "FakeConsumer":
        """Stands for the class `Consumer`."""
        from tests.kit.fakes.kafka.consumer import FakeConsumer

        self.consumers.append(FakeConsumer(self, config))
        return self.consumers[-1]

    def admin(self, config: Mapping[str, object], **client: object) -> "FakeAdminClient":
        """Stands for the class `AdminClient`."""
        from tests.kit.fakes.kafka.admin import FakeAdminClient

        return FakeAdminClient(self)

    # What its clients ask

    def ask(self, request: KafkaApi, timeout_s: float, do: Callable[[], T]) -> T:
        """Send a request, again and again while its error can be retried and time is left.

        Raises:
            BrokerError, NoAnswerError
        """
        deadline = self.clock.now + timeout_s
        while True:
            self.expire()
            answers = self.answers[request]
            answer = answers.popleft() if answers else None
            if self.is_down or answer is Silence.UNHEARD:
                self.clock.now = deadline
                raise NoAnswerError(None)
            if answer is Silence.UNANSWERED:
                do()
                self.clock.now = deadline
                raise NoAnswerError(None)
            if not answer or isinstance(answer, Silence):
                return do()
            if answer not in _RETRIED:
                raise BrokerError(answer)
            if self.clock.now + _BACKOFF_S > deadline:
                self.clock.now = deadline
                raise NoAnswerError(answer)
            self.clock.sleep(_BACKOFF_S)

    def metadata(self, topic: str | None, timeout_s: float) -> ClusterMetadata:
        """As `list_topics` returns it."""

        def answer() -> ClusterMetadata:
            found = ClusterMetadata()
            found.brokers = {1: BrokerMetadata()}
            found.topics = {name: self._topic(name) for name in self.topic_ids}
            if topic is not None:
                found.topics = {topic: found.topics.get(topic) or self._topic(topic)}
            return found

        return self.ask(KafkaApi.METADATA, timeout_s, answer)

    def _topic(self, name: str) -> TopicMetadata:
        found = TopicMetadata()
        found.topic = name
        if name not in self.topic_ids:
            found.error = KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART)
        for partition in self.logs:
            if partition[0] == name:
                found.partitions[partition[1]] = each = PartitionMetadata()
                each.id, each.leader = partition[1], -1 if partition in self.leaderless else 1
        return found

    # Transactions

    def register(self, name: str, timeout_s: float) -> int:
        """Begin another epoch of a transactional id; returns it."""
        known = self._identities.get(name)
        if known is not None and known.open is not None:
            self._end(known.open, End.ABORTED)
        epoch = 0 if known is None else known.epoch + 1
        self._identities[name] = _Identity(epoch, timeout_s, None)
        return epoch

    def open_transaction(self, name: str, epoch: int) -> Transaction:
        """The transaction that is open; another one is begun if none is.

        Raises:
            BrokerError: somebody else has the transactional id, or it took too long.
        """
        self.expect_epoch(name, epoch)
        known = self._identities[name]
        transaction = known.open or Transaction(self.clock.now)
        self._identities[name] = known._replace(open=transaction)
        return transaction

    def add_partition(self, name: str, epoch: int, partition: Partition) -> None:
        """Make a partition part of a transaction, whose end will be marked there.

        Raises:
            BrokerError: it is not accepted.
        """
        if partition not in self.logs:
            raise BrokerError(KafkaError.UNKNOWN_TOPIC_OR_PART)
        self.open_transaction(name, epoch).partitions.add(partition)

    def append(self, name: str, epoch: int, partition: Partition, batch: list[Stored]) -> None:
        """Add a batch to a transaction.

        Raises:
            BrokerError: nothing of it was added.
        """
        transaction = self.open_transaction(name, epoch)
        size = sum(record.size for record in batch)
        if size > self.limits.get(partition[0], size):
            raise BrokerError(KafkaError.MSG_SIZE_TOO_LARGE)
        for record in batch:
            self._store(partition, record._replace(transaction=transaction))

    def add_offsets(
        self, name: str, epoch: int, offsets: list[TopicPartition], metadata: bytes
    ) -> None:
        """Add a group's offsets to a transaction.

        Raises:
            BrokerError: they are not accepted.
        """
        transaction = self.open_transaction(name, epoch)
        group = self.group(group_of(metadata))
        if error := group.error_of(metadata):
            raise BrokerError(error)
        if any(len(each.metadata or "") > MAX_METADATA for each in offsets):
            raise BrokerError(KafkaError.OFFSET_METADATA_TOO_LARGE)
        pending = transaction.offsets.setdefault(group.name, {})
        pending |= {(each.topic, each.partition): each for each in offsets}

    def end_transaction(self, name: str, epoch: int, *, is_commit: bool) -> None:
        """Commit or abort what is open.

        Raises:
            BrokerError: somebody else has the transactional id, or it took too long.
        """
        self._end(self.open_transaction(name, epoch), End.COMMITTED if is_commit else End.ABORTED)
        self._identities[name] = self._identities[name]._replace(open=None)

    def expect_epoch(self, name: str, epoch: int) -> None:
        """Check that a producer is not fenced.

        Raises:
            BrokerError: it is.
        """
        self.expire()
        if self._identities[name].epoch != epoch:
            raise BrokerError(KafkaError.INVALID_PRODUCER_EPOCH)

    def bump(self, name: str, epoch: int) -> int:
        """Begin another epoch for the same producer, as librdkafka does after some errors."""
        self.expect_epoch(name, epoch)
        return self.register(name, self._identities[name].timeout_s)

    def is_unstable(self, group: str, partition: Partition) -> bool:
        """Whether a transaction with an offset of the partition is open."""
        self.expire()
        return any(
            identity.open is not None and partition in identity.open.offsets.get(group, ())
            for identity in self._identities.values()
        )

    def expire(self) -> None:
        """Abort transactions that are open for too long, and fence their producers."""
        for name, (epoch, timeout_s, transaction) in self._identities.items():
            if transaction is not None and self.clock.now > transaction.began + timeout_s:
                self._end(transaction, End.ABORTED)
                self._identities[name] = _Identity(epoch + 1, timeout_s, None)

    def _end(self, transaction: Transaction, end: End) -> None:
        transaction.end = end
        for partition in transaction.partitions:
            self.logs[partition].append(None)
        if end is End.COMMITTED:
            for group, offsets in transaction.offsets.items():
                self.group(group).offsets |= offsets

    def _store(self, partition: Partition, record: Stored) -> None:
        self.logs[partition].append(record)
        if record.transaction is not None:
            record.transaction.partitions.add(partition)

    @property
    def _now_ms(self) -> int:
        return int(self.clock.now * 1_000)
