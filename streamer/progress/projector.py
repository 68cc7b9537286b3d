"""The projector: reads the progress topic, maintains the counts and completes campaigns."""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from streamer.kafka.error_log import cause_of
from streamer.kafka.metadata import topic_id
from streamer.kafka.offsets import EARLIEST, OffsetsQuestion, Partition
from streamer.kafka.on_demand import OnDemandAdmin
from streamer.kafka.properties import client_properties
from streamer.kafka.shared import SharedConsumer
from streamer.ledger import keys
from streamer.ledger.connection import REDIS_ERRORS, connect
from streamer.ledger.input_offsets import InputOffsets
from streamer.ledger.lease import Lease
from streamer.logs import LastingProblem, client_logger
from streamer.progress.completion import CompletionChecker, EndOffsets
from streamer.progress.gauges import Gauges
from streamer.progress.projection import Projection
from streamer.progress.report import Report, Reporter
from streamer.progress.store import Due, Positions, StaleGenerationError, Store
from streamer.progress.summaries import Summaries
from streamer.progress.topic_reader import (
    ProjectionError,
    find_partitions,
    make_reader,
    read_chunks,
)
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
        readers: for a reader of the topic.
        caught_up: called once, when everything written before the start is counted.

    Attributes:
        last_step: monotonic time of the last completed step.
    """

    def __init__(
        self,
        settings: Settings,
        readers: SharedConsumer,
        caught_up: Callable[[], None] = _nobody_listens,
    ) -> None:
        self._settings = settings
        self._readers = readers
        self._client = connect(settings.redis, 2)
        self._store = Store(self._client, settings.kafka.group_id)
        self._reporter = Reporter(self._client, self._store)
        self._lease = Lease(self._client, keys.progress_lease(settings.kafka.group_id))
        self._gauges = Gauges()
        self._summaries = Summaries(settings)
        self._caught_up: Callable[[], None] | None = caught_up
        self._sweep_at = 0.0
        self._problem = LastingProblem(logger, "progress paused, retrying", "progress goes on")
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
                    # Another counts since a session failed: what this one shows is outdated.
                    self._gauges.clear()
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
            ProjectionError: the topic cannot be counted.
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
            session = _Session(self._settings, self._readers, self._store, self._store.open())
            stack.callback(session.close)
            session.look_for_partitions()
            checker = self._checker(session.admin)
            start: EndOffsets | None = EndOffsets(session.admin(), session.positions)
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
                    self._problem.end()
                    self.last_step = time.monotonic()
                except StaleGenerationError as error:
                    logger.info("restarting the counts", extra={"cause": str(error)})
                    stop.wait(0.2)
                    return
                if start is not None and start.reached(session.positions):
                    start = None
                    if self._caught_up is not None:
                        self._caught_up()
                        self._caught_up = None
                if has_lease:
                    checker.step(session.generation, session.positions, self._show)
                    self._tidy_up()

    def _checker(self, admin: OnDemandAdmin) -> CompletionChecker:
        topic, group = self._settings.topics.recipients, self._settings.kafka.group_id
        inputs = InputOffsets(self._client, group, topic_id(admin(), topic))
        return CompletionChecker(self._store, self._reporter, self._summaries, admin, topic, inputs)

    def _tidy_up(self) -> None:
        self._summaries.rest()
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
        self._gauges.show(self._reporter.reports(due.name for due in changed))

    def _pause(self, stop: threading.Event, error: Exception) -> None:
        self._problem.note(cause_of(error))
        stop.wait(_RETRY_S)

    def _close(self) -> None:
        with suppress(*REDIS_ERRORS):
            self._lease.release()
        self._client.close()


class _Session:
    """Reads and counts from the positions stored in Redis at the start."""

    def __init__(
        self, settings: Settings, readers: SharedConsumer, store: Store, stored: Positions
    ) -> None:
        self.generation = stored.generation
        properties = client_properties(settings, f"{settings.worker.id}-progress")
        self.admin = OnDemandAdmin(
            lambda: AdminClient(properties, logger=client_logger("progress"))
        )
        self._topics = settings.topics
        self._stored = stored.offsets
        self._projection = Projection(store, stored.generation)
        self._share = readers.open()
        self._reader = make_reader(self._share)
        self._look_at = 0.0

    @property
    def positions(self) -> Mapping[Partition, int]:
        """Offsets up to which records are counted, by partition."""
        return self._reader.positions

    def look_for_partitions(self) -> None:
        """Start reading new partitions.

        Raises:
            ProjectionError: a topic is missing.
            KafkaException: Kafka is unavailable.
        """
        self._look_at = time.monotonic() + _LOOK_FOR_PARTITIONS_EVERY_S
        with self._share.alone() as consumer:
            new = {*find_partitions(consumer, self._topics)} - self.positions.keys()
        if not new:
            return
        beginnings = OffsetsQuestion(self.admin(), new, EARLIEST).answer()
        starts = {partition: self._stored.get(partition, 0) for partition in new}
        _warn_of_gaps(starts, beginnings)
        self._reader.start(starts)

    def step(self) -> None:
        """Count new records, waiting briefly if there are none."""
        if time.monotonic() >= self._look_at:
            self.look_for_partitions()
        self.admin.rest()
        self._projection.add(read_chunks(self._reader))

    def close(self) -> None:
        self._reader.close()


def _warn_of_gaps(starts: Mapping[Partition, int], beginnings: Mapping[Partition, int]) -> None:
    """Warn about records that retention deleted before they were counted."""
    for (topic, partition), beginning in beginnings.items():
        start = starts[topic, partition]
        if 0 < start < beginning:
            logger.warning(
                "records were deleted before they were counted, the counts are too low",
                extra={"topic": topic, "partition": partition, "offsets": beginning - start},
            )
