"""Partitions that were assigned, until all is known of them that reading them needs."""

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from streamer.errors import StreamerError
from streamer.flow.window import Partition, PartitionWindow
from streamer.kafka.reading import FORBIDDEN
from streamer.ledger import keys
from streamer.model.pulse import OffsetMetadata
from streamer.settings import Settings

logger = logging.getLogger(__name__)

Windows = dict[Partition, PartitionWindow]
CheckArrived = Callable[[set[OffsetMetadata]], Future[dict[int, int]]]
"""Starts checking the ledger against the metadata of offsets; the result is the committed offset of
each partition as known to the ledger."""

OFFSETS_TIMEOUT_S = 2.0
_OFFSETS_RETRY_S = 0.5
_EARLIEST, _LATEST = -2, -1  # as times, in Kafka's protocol


class SourceError(StreamerError):
    """The input cannot be read; the message says why and what to do."""


class Arrivals:
    """Gives each assigned partition a window. `begun` advances them through two states, so that a
    rebalance never blocks:

    - arrived: nothing is known yet;
    - asked about: its committed offset is known, and another thread asks the ledger about it, as an
      unresponsive Redis must not block polls and commits.

    Args:
        starts_at_end: whether a partition without a committed offset is read from its end.

    Attributes:
        check: asks the ledger.
    """

    def __init__(self, settings: Settings, consumer: Consumer, *, starts_at_end: bool) -> None:
        self._settings = settings
        self._topic = settings.topics.recipients
        self._consumer = consumer
        self._starts_at_end = starts_at_end
        self._arrived: set[Partition] = set()
        self._asked: dict[Partition, TopicPartition] = {}
        """Partitions asked about, with their committed offsets."""
        self._answer: Future[dict[int, int]] | None = None
        self._begun: Windows = {}
        self._next_try = 0.0
        self._last_problem = ""
        self.check: CheckArrived = _nothing_is_known

    def __len__(self) -> int:
        return len(self._arrived) + len(self._asked)

    def add(self, partitions: Iterable[Partition]) -> None:
        """Partitions were assigned."""
        self._arrived |= {*partitions}
        self._next_try = 0.0

    def drop(self, partitions: set[Partition]) -> None:
        """Partitions were revoked."""
        self._arrived -= partitions
        for key in partitions & self._asked.keys():
            del self._asked[key]

    def begun(self, now: float) -> Windows:
        """Return the windows of the partitions of which all is known now.

        Raises:
            LedgerLostError: their offsets belong to another ledger.
            SourceError: Kafka has forgotten the committed offset of a partition, or access to it is
                denied.
        """
        try:
            if self._arrived and self._answer is None and now >= self._next_try:
                self._ask()
            if self._answer is not None and self._answer.done():
                self._make_windows()
        except KafkaException as exception:
            self._try_again(exception.args[0])
        begun, self._begun = self._begun, {}
        return begun

    def _ask(self) -> None:
        """Read the committed offsets of the arrived partitions, and start the ledger's check.

        Raises:
            KafkaException: Kafka cannot answer now.
        """
        asked = [TopicPartition(*key) for key in self._arrived]
        known = self._answered(self._consumer.committed(asked, OFFSETS_TIMEOUT_S))
        if known:
            self._asked = {(p.topic, p.partition): p for p in known}
            self._arrived -= self._asked.keys()
            self._answer = self.check(parsed_metadata(known))

    def _make_windows(self) -> None:
        """Create windows for the partitions whose ledger check is done.

        Raises:
            LedgerLostError: their offsets belong to another ledger.
            SourceError: Kafka has forgotten the committed offset of a partition.
            KafkaException: the first offsets cannot be read now; those partitions stay arrived.
        """
        answer, self._answer = self._answer, None
        asked, self._asked = self._asked, {}
        if answer is None:
            return
        kept = answer.result()
        # First, so that an exception does not lose them; none is read before all is known.
        self._arrived |= asked.keys()
        begun = [p for p in asked.values() if p.offset >= 0]
        new = [TopicPartition(p.topic, p.partition) for p in asked.values() if p.offset < 0]
        marked = {(p.topic, p.partition) for p in begun if p.metadata}
        self._begin(begun, marked)
        first = self._first_offsets(new)
        self._refuse_forgotten(first, kept)
        self._begin(first, marked)
        if not self._arrived:
            self._last_problem = ""

    def _begin(self, starts: list[TopicPartition], marked: set[Partition]) -> None:
        for start in starts:
            key = (start.topic, start.partition)
            is_marked = key in marked
            reach = OffsetMetadata.parse(start.metadata).reach if is_marked else None
            self._begun[key] = PartitionWindow(
                start.offset, is_marked=is_marked, reach=start.offset if reach is None else reach
            )
            self._arrived.remove(key)

    def _first_offsets(self, partitions: list[TopicPartition]) -> list[TopicPartition]:
        """The start offsets of partitions without a committed offset, as far as their leaders
        answer."""
        if not partitions:
            return []
        # A partition without a leader would fail the request for all.
        found = self._consumer.list_topics(self._topic, OFFSETS_TIMEOUT_S).topics[self._topic]
        led = {number for number, each in found.partitions.items() if each.leader >= 0}
        when = _LATEST if self._starts_at_end else _EARLIEST
        asked = [TopicPartition(p.topic, p.partition, when) for p in partitions]
        asked = [p for p in asked if p.partition in led]
        if len(asked) < len(partitions):
            self._try_again(KafkaError(KafkaError.LEADER_NOT_AVAILABLE))
        if not asked:
            return []
        return self._answered(self._consumer.offsets_for_times(asked, OFFSETS_TIMEOUT_S))

    def _answered(self, found: list[TopicPartition]) -> list[TopicPartition]:
        """The partitions that have an offset; the others are asked for again."""
        errors = [each.error for each in found if each.error is not None]
        if errors:
            self._try_again(errors[0])
        return [each for each in found if each.error is None]

    def _refuse_forgotten(self, first: list[TopicPartition], kept: Mapping[int, int]) -> None:
        """Raise SourceError if the ledger knows of commits in partitions that have no offset."""
        forgotten = {
            start.partition: kept[start.partition]
            for start in first
            if start.partition in kept
            and (
                kept[start.partition] > start.offset
                # Starting at the end would skip the records in between.
                or (self._starts_at_end and kept[start.partition] < start.offset)
            )
        }
        if forgotten:
            raise self._forgotten(forgotten)

    def _forgotten(self, offsets: Mapping[int, int]) -> SourceError:
        group, servers = self._settings.kafka.group_id, self._settings.kafka.bootstrap_servers
        partition, offset = min(offsets.items())
        each = ", ".join(f"{number} at {at}" for number, at in sorted(offsets.items()))
        return SourceError(
            f"Kafka has lost the committed offsets of group {group} in {self._topic}: they expired "
            f"after the group's last member left (offsets.retention.minutes), or were deleted. "
            f"According to the ledger they were: partition {each}. Nothing is read, since other "
            f"offsets would resolve records twice or skip them. Stop all workers, set the offset "
            f"of each of these partitions, e.g. "
            f"kafka-consumer-groups.sh --bootstrap-server {servers} --group {group} "
            f"--topic {self._topic}:{partition} --reset-offsets --to-offset {offset} --execute, "
            f"and start them again. Only to reread the whole topic: DEL "
            f"{keys.input_positions(group)} in Redis"
        )

    def _try_again(self, error: KafkaError) -> None:
        """Schedule another attempt after an error.

        Raises:
            SourceError: access is denied.
        """
        if error.code() in FORBIDDEN:
            raise SourceError(f"cannot read the committed offsets: {error.str()}")
        self._next_try = time.monotonic() + _OFFSETS_RETRY_S
        level = logging.DEBUG if self._last_problem == error.name() else logging.WARNING
        self._last_problem = error.name()
        extra = {"error": error.str()}
        logger.log(level, "cannot read the committed offsets, retrying", extra=extra)


def _nothing_is_known(committed: set[OffsetMetadata]) -> Future[dict[int, int]]:
    del committed
    answer: Future[dict[int, int]] = Future()
    answer.set_result({})
    return answer


def parsed_metadata(committed: list[TopicPartition]) -> set[OffsetMetadata]:
    """Return what the metadata of committed offsets says."""
    return {OffsetMetadata.parse(p.metadata) for p in committed if p.offset >= 0 and p.metadata}
