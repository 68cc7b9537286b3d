"""The projector: reads the topics, maintains the counts and completes campaigns."""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from streamer.kafka.metadata import partitions_of, topic_id
from streamer.kafka.offsets import EARLIEST, OffsetsQuestion
from streamer.kafka.properties import client_properties
from streamer.ledger import keys
from streamer.ledger.connection import REDIS_ERRORS, Client, connect
from streamer.ledger.lease import Lease
from streamer.ledger.relayed import Relayed
from streamer.logs import client_logger
from streamer.progress.completion import CompletionChecker, EndOffsets
from streamer.progress.fold import Cursor, Stream
from streamer.progress.gauges import Gauges
from streamer.progress.projection import Projection
from streamer.progress.report import Report, Reporter
from streamer.progress.store import Due, Positions, StaleGenerationError, Store
from streamer.progress.summaries import Summaries
from streamer.progress.topic_reader import ProjectionError, TopicReader, topic_cursors
from streamer.settings import Settings

logger = logging.getLogger(__name__)

_REPORTS_AT_ONCE = 500
_LOOK_FOR_PARTITIONS_EVERY_S = 60.0
_LEASE_WAIT_S = 2.0
_DAY_S = 86_400.0
_RETRY_S = 2.0
_HOPELESS_RETRY_S = 60.0


def _nobody_listens() -> None:
    """Default callback, which does nothing."""


class Projector:
    """Projects until stopped.

    Runs in one thread. Any number of processes may run one, and the counts stay exact. The holder
    of the lease also completes campaigns and exports metrics.

    Args:
        settings: the settings.
        caught_up: called once, when everything written before the start is counted.

    Attributes:
        last_step: monotonic time of the last completed step.
    """

    def __init__(self, settings: Settings, caught_up: Callable[[], None] = _nobody_listens) -> None:
        self._settings = settings
        self._client = connect(settings.redis, 2)
        self._store = Store(self._client, settings.kafka.group_id)
        self._reporter = Reporter(self._client, self._store)
        self._lease = Lease(self._client, keys.progress_lease(settings.kafka.group_id))
        self._gauges = Gauges()
        self._summaries = Summaries(settings)
        self._caught_up: Callable[[], None] | None = caught_up
        self._sweep_at = 0.0
        self.last_step = time.monotonic()

    def run(self, stop: threading.Event) -> None:
        """Project while holding the lease, in a thread of a worker.

        Errors are logged and retried, since sending does not depend on the counts.
        """
        while not stop.is_set():
            try:
                if self._lease.hold():
                    self._session(stop, only_with_lease=True)
                else:
                    stop.wait(_LEASE_WAIT_S)
            except (*REDIS_ERRORS, KafkaException) as error:
                self._pause(stop, error)
            except ProjectionError as error:
                logger.error("cannot count progress", extra={"cause": str(error)})
                stop.wait(_HOPELESS_RETRY_S)
        self._close()

    def work(self, stop: threading.Event) -> None:
        """Project with or without the lease, in a process of its own.

        Waits while Redis or Kafka is unavailable.

        Raises:
            ProjectionError: the topics cannot be counted.
        """
        while not stop.is_set():
            try:
                self._session(stop, only_with_lease=False)
            except (*REDIS_ERRORS, KafkaException) as error:
                self._pause(stop, error)
        self._close()

    def _session(self, stop: threading.Event, *, only_with_lease: bool) -> None:
        """Project from the positions in Redis until they become invalid.

        After any Redis error a new session starts, since the server may have failed over and lost
        the latest counts.
        """
        with ExitStack() as stack:
            session = _Session(self._settings, self._client, self._store, self._store.open())
            stack.callback(session.close)
            checker = CompletionChecker(self._store, self._reporter, self._summaries, session.admin)
            session.look_for_partitions()
            start = EndOffsets(session.admin, session.positions)
            is_shown = False
            while not stop.is_set():
                has_lease = self._lease.hold()
                if has_lease and not is_shown:
                    self._gauges.show(self._unfinished())
                elif not has_lease:
                    self._gauges.clear()
                    if only_with_lease:
                        return
                is_shown = has_lease
                try:
                    session.step()
                    self.last_step = time.monotonic()
                except StaleGenerationError as error:
                    logger.info("restarting the counts", extra={"cause": str(error)})
                    stop.wait(0.2)
                    return
                if self._caught_up is not None and start.reached(session.positions):
                    self._caught_up()
                    self._caught_up = None
                if has_lease:
                    checker.step(session.generation, session.positions, self._show)
                    self._sweep_if_due()

    def _sweep_if_due(self) -> None:
        if time.monotonic() >= self._sweep_at:
            self._store.sweep(round(self._settings.progress.keep_days * _DAY_S))
            self._sweep_at = time.monotonic() + _DAY_S

    def _unfinished(self) -> Iterator[Report]:
        names = list(self._store.campaigns())
        for start in range(0, len(names), _REPORTS_AT_ONCE):
            for report in self._reporter.reports(names[start : start + _REPORTS_AT_ONCE]):
                if report is not None and not report.is_complete:
                    yield report

    def _show(self, changed: list[Due]) -> None:
        self._gauges.show(self._reporter.reports(due.key for due in changed))

    def _pause(self, stop: threading.Event, error: Exception) -> None:
        logger.warning("progress paused, retrying", extra={"cause": str(error)})
        stop.wait(_RETRY_S)

    def _close(self) -> None:
        with suppress(*REDIS_ERRORS):
            self._lease.release()
        self._client.close()


class _Session:
    """Reads and counts from the positions stored in Redis at the start."""

    def __init__(self, settings: Settings, client: Client, store: Store, stored: Positions) -> None:
        topics = settings.topics
        self.generation = stored.generation
        properties = client_properties(settings, f"{settings.worker.id}-progress")
        self.admin = AdminClient(properties, logger=client_logger("progress"))
        self._streams = {
            Stream.RECIPIENTS: topics.recipients,
            Stream.PARKED: topics.parked,
            Stream.OUTCOMES: topics.outcomes,
            Stream.DEAD_LETTERS: topics.dead_letters,
        }
        self._stored = stored.offsets
        self._projection = Projection(store, stored)
        self._reader = TopicReader(settings)
        self._store = store
        self._client = client
        self._group = settings.kafka.group_id
        self._look_at = 0.0

    @property
    def positions(self) -> dict[Cursor, int]:
        """Offsets up to which records are counted, by cursor."""
        return self._reader.positions

    def look_for_partitions(self) -> None:
        """Start reading new partitions.

        Raises:
            KafkaException: Kafka is unavailable.
        """
        self._look_at = time.monotonic() + _LOOK_FOR_PARTITIONS_EVERY_S
        partitions = partitions_of(self.admin, self._streams.values())
        for topic in set(self._streams.values()) - partitions.keys():
            logger.warning(
                "missing topic, not counted; create it: streamer topics create",
                extra={"topic": topic},
            )
        cursors = topic_cursors(self._streams, partitions) - self.positions.keys()
        by_partition = {(cursor.topic, cursor.partition): cursor for cursor in cursors}
        answer = OffsetsQuestion(self.admin, by_partition, EARLIEST).answer()
        beginnings = {by_partition[partition]: offset for partition, offset in answer.items()}
        starts = {place: self._stored.get(place, 0) for place in cursors} | self._begin(
            {place: at for place, at in beginnings.items() if place.stream is Stream.PARKED}
        )
        _warn_of_gaps(starts, beginnings)
        self._reader.start(starts)

    def _begin(self, beginnings: Mapping[Cursor, int]) -> dict[Cursor, int]:
        """Set from where partitions of the parked topic are counted, and return where to read on.

        A generation counts records that are parked when it starts, or later. Earlier records have
        left the parked topic and may be deleted at any time.
        """
        if not beginnings:
            return {}
        topic = next(iter(beginnings)).topic
        relayed = Relayed(self._client, self._group, topic_id(self.admin, topic)).read()
        wanted = {
            cursor: max(at, relayed[cursor.partition].base if cursor.partition in relayed else 0)
            for cursor, at in beginnings.items()
        }
        began = self._store.begin(self.generation, wanted)
        self._projection.parked_from |= {place.partition: at for place, at in began.items()}
        return {place: max(at, self._stored.get(place, 0)) for place, at in began.items()}

    def step(self) -> None:
        """Count new records, waiting briefly if there are none."""
        if time.monotonic() >= self._look_at:
            self.look_for_partitions()
        self._projection.add(self._reader.read())

    def close(self) -> None:
        self._reader.close()


def _warn_of_gaps(starts: Mapping[Cursor, int], beginnings: Mapping[Cursor, int]) -> None:
    """Warn about records that retention deleted before they were counted."""
    for cursor, beginning in beginnings.items():
        if 0 < starts[cursor] < beginning:
            logger.warning(
                "records were deleted before they were counted, the counts are too low",
                extra={
                    "topic": cursor.topic,
                    "partition": cursor.partition,
                    "offsets": beginning - starts[cursor],
                },
            )
