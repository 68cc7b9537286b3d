"""Stand-ins for the client library's producer and consumer, of which a test says what fails."""

from collections import defaultdict, deque
from collections.abc import Callable, Iterable

from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition

TIMED_OUT = KafkaError(KafkaError._TIMED_OUT, "nobody answered", False, True, False)
ABORTABLE = KafkaError(KafkaError.ILLEGAL_GENERATION, "another generation", False, False, True)
FENCED = KafkaError(KafkaError._FENCED, "fenced", True, False, False)
TOO_LARGE = KafkaError(KafkaError.MSG_SIZE_TOO_LARGE, "too large", False, False, False)
CONFLICT = KafkaError(KafkaError._CONFLICT, "a commit had begun", False, False, False)

Delivered = Callable[[KafkaError | None, Message | None], None]


class FakeProducer:
    """Notes what it is told to do; a call fails with the next error that the test gave it.

    Attributes:
        said: the calls that succeeded and those that failed, by name; of `produce` the value.
        made: how many there were: each fences the one before.
        refuses: with what the broker answers a value, some time after it was taken.
    """

    def __init__(self) -> None:
        self.said: list[str] = []
        self.made = 0
        self.fails: defaultdict[str, deque[Exception]] = defaultdict(deque)
        self.refuses: dict[bytes, KafkaError] = {}
        self._told: list[tuple[Delivered, KafkaError]] = []

    def __call__(self, properties: object, **client: object) -> "FakeProducer":
        self.made += 1
        return self

    def fail(self, call: str, *errors: KafkaError | Exception) -> None:
        """Let the next calls of that name fail, each with one of the errors."""
        self.fails[call] += [
            error if isinstance(error, Exception) else KafkaException(error) for error in errors
        ]

    def init_transactions(self, timeout: float) -> None:
        self._call("init")

    def begin_transaction(self) -> None:
        self._call("begin")

    def produce(
        self,
        topic: str,
        value: bytes,
        key: bytes | None = None,
        partition: int = -1,
        *,
        on_delivery: Delivered,
        headers: object,
    ) -> None:
        self._call("produce", value.decode())
        if value in self.refuses:
            self._told.append((on_delivery, self.refuses[value]))

    def produce_batch(self, topic: str, messages: list[dict[str, object]]) -> None:
        for message in messages:
            value = message["value"]
            assert isinstance(value, bytes)
            if value in self.refuses:
                message["_error"] = self.refuses[value]
            else:
                self.said.append(value.decode())

    def send_offsets_to_transaction(self, *args: object) -> None:
        self._call("offsets")

    def commit_transaction(self, timeout: float) -> None:
        self._call("commit")

    def abort_transaction(self, timeout: float) -> None:
        self._call("abort")

    def poll(self, timeout: float) -> int:
        told, self._told = self._told, []
        for delivered, error in told:
            delivered(error, None)
        return len(told)

    def __len__(self) -> int:
        return len(self._told)

    def __bool__(self) -> bool:
        return True

    def _call(self, name: str, said: str = "") -> None:
        self.said.append(said or name)
        if self.fails[name]:
            raise self.fails[name].popleft()


class FakeConsumer:
    """Gives what the test has put in, to whoever reads that partition from before it."""

    def __init__(self) -> None:
        self.assigned: dict[tuple[str, int], int] = {}
        self.batches: deque[list[Message]] = deque()
        self.is_closed = False

    def __call__(self, properties: object, **client: object) -> "FakeConsumer":
        return self

    def put(self, *messages: Message) -> None:
        """Let these come together."""
        self.batches.append(list(messages))

    def incremental_assign(self, partitions: Iterable[TopicPartition]) -> None:
        for each in partitions:
            assert (each.topic, each.partition) not in self.assigned
            self.assigned[each.topic, each.partition] = each.offset

    def incremental_unassign(self, partitions: Iterable[TopicPartition]) -> None:
        for each in partitions:
            del self.assigned[each.topic, each.partition]

    def consume(self, count: int, timeout: float) -> list[Message]:
        # What comes together is followed by a pause.
        if timeout == 0 or not self.batches:
            return []
        return self.batches.popleft()

    def close(self) -> None:
        self.is_closed = True


def record(offset: int, value: bytes = b"v", partition: int = 0, topic: str = "t") -> Message:
    """A record as a consumer gives it."""
    return Message(topic, partition, offset, b"key", value)


def end(offset: int, partition: int = 0, topic: str = "t") -> Message:
    """The news that a partition has no more for now."""
    eof = KafkaError(KafkaError._PARTITION_EOF)
    return Message(topic, partition, offset, error=eof)
