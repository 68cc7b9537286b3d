"""The client library's consumer: a member of a group, or assigned by hand."""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from itertools import islice

from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # public, yet not re-exported
    ClusterMetadata,
)

from tests.kit.fakes.kafka import errors
from tests.kit.fakes.kafka.cluster import BrokerError, FakeKafka, KafkaApi, NoAnswerError
from tests.kit.fakes.kafka.log import Log, Partition, message

Rebalance = Callable[["FakeConsumer", list[TopicPartition]], None]

_UNKNOWN, _EARLIEST, _LATEST = -1001, -2, -1
_AT_END = ("latest", "largest", "end")


class FakeConsumer:
    """A consumer. Rebalances and records come when it polls.

    Attributes:
        member_id: of its current membership.
        largest_read: how many messages it gave at once.
        is_closed: whether it was closed.
    """

    def __init__(self, kafka: FakeKafka, config: Mapping[str, object]) -> None:
        self._kafka = kafka
        self._group = kafka.group(str(config["group.id"]))
        self._sees_uncommitted = config.get("isolation.level") == "read_uncommitted"
        self._shows_ends = bool(config.get("enable.partition.eof"))
        self._starts_at_end = config.get("auto.offset.reset") in _AT_END
        self._has_to_tell = config.get("auto.offset.reset") == "error"
        self._fails: deque[tuple[str, KafkaError]] = deque()
        self._given: deque[Message] = deque()
        self._positions: dict[Partition, int] = {}
        self._known: set[Partition] = set()
        """Partitions of which something was read, so that their position is known."""
        self._astray: set[Partition] = set()
        """Partitions whose offset does not exist, which was told."""
        self._ended: dict[Partition, int] = {}
        self._paused: set[Partition] = set()
        self._watermarks: dict[Partition, tuple[int, int]] = {}
        """As of the last fetch."""
        self.member_id = ""
        self.topics: list[str] = []
        self.largest_read = 0
        self.is_closed = False
        self._lost: list[Partition] | None = None
        """What it has to be told that it lost."""
        self._stale = b""
        self._generation = 0
        self._on_assign: Rebalance = FakeConsumer.incremental_assign
        self._on_revoke: Rebalance = FakeConsumer.incremental_unassign
        self._on_lost: Rebalance = FakeConsumer.incremental_unassign

    def fail(self, call: str, *errors: KafkaError) -> None:
        """Let the next calls of a name fail in the client."""
        self._fails += [(call, error) for error in errors]

    def give(self, *messages: Message) -> None:
        """Give these next, whatever they are: errors, or what comes late."""
        self._given += messages

    def expire(self) -> None:
        """Not to have polled for longer than `max.poll.interval.ms`."""
        self._group.expel(self)
        self.give(Message(error=KafkaError(KafkaError._MAX_POLL_EXCEEDED)))

    # The group

    def subscribe(
        self,
        topics: list[str],
        on_assign: Rebalance | None = None,
        on_revoke: Rebalance | None = None,
        on_lost: Rebalance | None = None,
    ) -> None:
        self.topics = topics
        self._on_assign = on_assign or self._on_assign
        self._on_revoke = on_revoke or self._on_revoke
        self._on_lost = on_lost or self._on_revoke

    def unsubscribe(self) -> None:
        """Leave the group, with the next poll."""
        self.topics = []

    def memberid(self) -> str | None:
        return self.member_id or None

    def consumer_group_metadata(self) -> bytes:
        if self._lost is not None:
            return self._stale
        return self._group.metadata(self if self._is_member else None)

    @property
    def _is_member(self) -> bool:
        return self.member_id in self._group.members

    def expelled(self, partitions: list[Partition], metadata: bytes) -> None:
        self._lost, self._stale = partitions, metadata

    def _serve_group(self) -> None:
        if self._lost is not None:
            lost, self._lost = self._lost, None
            self._on_lost(self, _listed(lost))
        if self.topics and not self._is_member:
            self._group.join(self)
        if self._is_member and not self.topics:
            self._leave()
        if not self._is_member or self._generation == self._group.generation:
            return
        revoked = self._group.revoked(self)
        if revoked:
            self._on_revoke(self, _listed(revoked))
            self._group.give_up(revoked)
        self._generation = self._group.generation
        self._on_assign(self, _listed(self._group.take_up(self)))

    def _leave(self) -> None:
        owned = self._group.owned(self)
        if owned:
            self._on_revoke(self, _listed(owned))
        self._group.leave(self)
        self.member_id = ""

    # The assignment

    def incremental_assign(self, partitions: Iterable[TopicPartition]) -> None:
        for each in partitions:
            partition = (each.topic, each.partition)
            if partition in self._positions:
                text = f"{each.topic} [{each.partition}] is already part of the current assignment"
                raise KafkaException(KafkaError(KafkaError._CONFLICT, text))
            self._positions[partition] = self._first(partition, each.offset)

    def incremental_unassign(self, partitions: Iterable[TopicPartition]) -> None:
        for each in partitions:
            partition = (each.topic, each.partition)
            if partition not in self._positions:
                text = f"{each.topic} [{each.partition}] is not in the current assignment"
                raise KafkaException(KafkaError(KafkaError._INVALID_ARG, text))
            del self._positions[partition]
            self._known.discard(partition)
            self._astray.discard(partition)
            self._ended.pop(partition, None)

    def assignment(self) -> list[TopicPartition]:
        return _listed(self._positions)

    def pause(self, partitions: Iterable[TopicPartition]) -> None:
        self._paused |= {(each.topic, each.partition) for each in partitions}

    def resume(self, partitions: Iterable[TopicPartition]) -> None:
        # Of a partition that is given up, the client library forgets nothing.
        self._paused -= {(each.topic, each.partition) for each in partitions}

    def position(self, partitions: Iterable[TopicPartition]) -> list[TopicPartition]:
        return [
            TopicPartition(each.topic, each.partition, self._positions[each.topic, each.partition])
            if (each.topic, each.partition) in self._known
            else TopicPartition(each.topic, each.partition)
            for each in partitions
        ]

    def _first(self, partition: Partition, offset: int) -> int:
        if offset == _UNKNOWN:
            committed = self._group.offsets.get(partition)
            offset = committed.offset if committed else self._reset(partition)
        if offset < 0:
            log = self._kafka.logs[partition]
            return self._end(log) if offset == _LATEST else log.start
        return offset

    def _reset(self, partition: Partition) -> int:
        log = self._kafka.logs[partition]
        return self._end(log) if self._starts_at_end else log.start

    def _end(self, log: Log) -> int:
        return log.end if self._sees_uncommitted else log.stable_end

    # Records

    def poll(self, timeout: float = -1) -> Message | None:
        found = self.consume(1, timeout)
        return found[0] if found else None

    def consume(self, num_messages: int = 1, timeout: float = -1) -> list[Message]:
        self._expect_open()
        self._serve_group()
        found = [*islice(iter(self._given.popleft, None), len(self._given))][:num_messages]
        if not self._kafka.is_down:
            self._kafka.expire()
            for partition in [*self._positions]:
                if partition not in self._paused and len(found) < num_messages:
                    found += self._fetch(partition, num_messages - len(found))
        if not found:
            self._kafka.clock.sleep(max(0.0, timeout))
        self.largest_read = max(self.largest_read, len(found))
        return found

    def _fetch(self, partition: Partition, count: int) -> list[Message]:
        log, at = self._kafka.logs[partition], self._positions[partition]
        if not log.start <= at <= log.end:
            if self._has_to_tell:
                return self._told(partition, at)
            at = self._reset(partition)
        end, before = self._end(log), at
        found: list[Message] = []
        self._watermarks[partition] = log.start, log.end
        while at < end and len(found) < count:
            stored = log.at(at)
            if stored is not None and (self._sees_uncommitted or stored.is_committed):
                found.append(message(partition, at, stored))
            at += 1
        if at != before:
            self._known.add(partition)
        self._positions[partition] = at
        is_news = self._ended.get(partition) != end
        if self._shows_ends and at == end and is_news and len(found) < count:
            self._ended[partition] = end
            found.append(Message(*partition, end, error=KafkaError(KafkaError._PARTITION_EOF)))
        return found

    def _told(self, partition: Partition, at: int) -> list[Message]:
        """An error, once; then nothing is read until another offset is assigned."""
        if partition in self._astray:
            return []
        self._astray.add(partition)
        text = "fetch failed due to requested offset not available on the broker"
        error = KafkaError(KafkaError._AUTO_OFFSET_RESET, text)
        return [Message(*partition, at, error=error)]

    # Questions

    def committed(
        self, partitions: Iterable[TopicPartition], timeout: float = -1
    ) -> list[TopicPartition]:
        self._expect_open()
        self._fail_if_told("committed")
        asked = [(each.topic, each.partition) for each in partitions]

        def answer() -> list[TopicPartition]:
            return [self._committed(partition) for partition in asked]

        try:
            if not self._sees_uncommitted and any(
                self._kafka.is_unstable(self._group.name, partition) for partition in asked
            ):
                self._kafka.clock.sleep(timeout)
                raise NoAnswerError(None)
            return self._kafka.ask(KafkaApi.FETCH_OFFSETS, timeout, answer)
        except NoAnswerError as error:
            raise _failed(error.code or KafkaError._TIMED_OUT) from None
        except BrokerError as error:
            raise _failed(error.code) from None

    def _committed(self, partition: Partition) -> TopicPartition:
        if partition in self._kafka.errors:
            return errors.failed_partition(*partition, self._kafka.errors[partition])
        return self._group.offsets.get(partition) or TopicPartition(*partition)

    def get_watermark_offsets(
        self, partition: TopicPartition, timeout: float = -1, cached: bool = False
    ) -> tuple[int, int]:
        self._fail_if_told("get_watermark_offsets")
        key = (partition.topic, partition.partition)
        if cached:
            return self._watermarks.get(key, (_UNKNOWN, _UNKNOWN))
        if key not in self._kafka.logs:
            raise _failed(KafkaError._UNKNOWN_PARTITION)
        first, last = self._list_offsets([(key, _EARLIEST), (key, _LATEST)], timeout)
        return first, last

    def offsets_for_times(
        self, partitions: Iterable[TopicPartition], timeout: float = -1
    ) -> list[TopicPartition]:
        self._fail_if_told("offsets_for_times")
        asked = [((each.topic, each.partition), each.offset) for each in partitions]
        found = self._list_offsets(asked, timeout)
        return [TopicPartition(*key, at) for (key, _), at in zip(asked, found, strict=True)]

    def _list_offsets(self, asked: list[tuple[Partition, int]], timeout: float) -> list[int]:
        def answer() -> list[int]:
            return [self._offset_at(self._kafka.logs[key], when) for key, when in asked]

        try:
            if any(key in self._kafka.leaderless for key, _ in asked):
                self._kafka.clock.sleep(timeout)
                raise NoAnswerError(None)
            return self._kafka.ask(KafkaApi.LIST_OFFSETS, timeout, answer)
        except NoAnswerError as error:
            raise _failed(error.code or KafkaError._TIMED_OUT) from None
        except BrokerError as error:
            raise _failed(error.code) from None

    def _offset_at(self, log: Log, when: int) -> int:
        if when == _EARLIEST:
            return log.start
        return self._end(log) if when == _LATEST else log.first_since(when)

    def list_topics(self, topic: str | None = None, timeout: float = -1) -> ClusterMetadata:
        self._fail_if_told("list_topics")
        try:
            return self._kafka.metadata(topic, timeout)
        except NoAnswerError:
            raise _failed(KafkaError._TRANSPORT) from None
        except BrokerError as error:
            raise _failed(error.code) from None

    def close(self) -> None:
        self._expect_open()
        self.is_closed = True
        if self._is_member:
            self._leave()

    def _expect_open(self) -> None:
        if self.is_closed:
            raise RuntimeError("Consumer closed")

    def _fail_if_told(self, call: str) -> None:
        if self._fails and self._fails[0][0] == call:
            raise KafkaException(self._fails.popleft()[1])


def _listed(partitions: Iterable[Partition]) -> list[TopicPartition]:
    return [TopicPartition(*partition) for partition in partitions]


def _failed(code: int) -> KafkaException:
    return KafkaException(KafkaError(code))
