"""Following the relay: which records of the parked topic are not parked any more.

The records that are parked now lie behind the committed offsets of the relay's group. So this
reads the parked topic a second time, up to those offsets, to learn whose records left.
"""

import logging
import time
from collections.abc import Mapping

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient

from streamer.logs import client_logger
from streamer.progress.arrivals import report
from streamer.progress.fold import Chunk, Cursor, Place
from streamer.progress.kafka import CommittedQuestion, consumer_config
from streamer.settings import Settings

logger = logging.getLogger(__name__)

_ASK_EVERY_S = 1.0
_MOST_RECORDS = 2_000


class Departures:
    """Reads the parked topic as far as the relay has moved its records on.

    Never further than it was read as records came, or somebody would have left before they came.
    A partition is assigned only while there is something to read in it.
    """

    def __init__(self, settings: Settings, admin: AdminClient) -> None:
        self._topic = settings.topics.parked
        self._group = f"{settings.kafka.group_id}.relay"
        self._admin = admin
        self._consumer = Consumer(consumer_config(settings), logger=client_logger("progress"))
        self._positions: dict[int, int] = {}
        self._limits: dict[int, int] = {}
        self._reading: set[int] = set()
        self._question: CommittedQuestion | None = None
        self._ask_at = 0.0

    def start(self, positions: Mapping[Place, int]) -> None:
        """Read further places, from these positions."""
        for place, at in positions.items():
            self._positions.setdefault(place.partition, at)

    def read(self, arrived: Mapping[Place, int]) -> dict[Place, Chunk]:
        """Who left since; does not wait.

        Args:
            arrived: the positions up to which arrivals are read.

        Raises:
            ProjectionError: the topic cannot be read.
        """
        self._ask(arrived)
        self._assign()
        if not self._reading:
            return {}
        read: dict[int, list[Message]] = {}
        ends: dict[int, int] = {}
        for message in self._consumer.consume(_MOST_RECORDS, 0.0):
            error, partition = message.error(), message.partition() or 0
            if error is not None and error.code() != KafkaError._PARTITION_EOF:
                report(error)
                continue
            limit = self._limits[partition]
            if partition not in self._reading or self._positions[partition] >= limit:
                continue
            offset = message.offset() or 0
            if offset < limit and error is None:
                read.setdefault(partition, []).append(message)
                offset += 1
            # What lies between a record and the next one, or the end, is nobody's.
            self._positions[partition] = ends[partition] = min(offset, limit)
        # What came from behind a limit was dropped, and has to be read again when the limit has
        # moved: as long as a partition is assigned the consumer goes on behind it.
        self._assign()
        return {self._place(p): Chunk(read.get(p, []), end) for p, end in ends.items()}

    def close(self) -> None:
        """Read no more."""
        self._consumer.close()

    def _ask(self, arrived: Mapping[Place, int]) -> None:
        now = time.monotonic()
        if self._question is None:
            if now >= self._ask_at:
                partitions = [(self._topic, partition) for partition in self._positions]
                self._question = CommittedQuestion(self._admin, self._group, partitions)
                self._ask_at = now + _ASK_EVERY_S
            return
        if not self._question.is_answered:
            return
        question, self._question = self._question, None
        try:
            committed = question.answer()
        except KafkaException as exception:
            # Nobody can say yet who left; the group may not even be there.
            logger.debug("no offsets of the relay", extra={"error": exception.args[0].str()})
            return
        for (topic, partition), offset in committed.items():
            reached = arrived.get(Place(Cursor.PARKED, topic, partition), 0)
            self._limits[partition] = max(self._limits.get(partition, 0), min(offset, reached))

    def _assign(self) -> None:
        unread = {p for p, limit in self._limits.items() if self._positions[p] < limit}
        if done := self._reading - unread:
            self._consumer.incremental_unassign([TopicPartition(self._topic, p) for p in done])
        if new := unread - self._reading:
            self._consumer.incremental_assign(
                [TopicPartition(self._topic, p, self._positions[p]) for p in new]
            )
        self._reading = unread

    def _place(self, partition: int) -> Place:
        return Place(Cursor.LEFT, self._topic, partition)
