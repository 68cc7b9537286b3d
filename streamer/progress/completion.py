"""Completing campaigns and publishing their results.

A campaign with an expected number of recipients is complete when at least that many input records
were received, all of them have a result, and none is parked. The check first waits until the
topics are counted up to the ends they had when it started. So a producer that writes all
recipients first and then sets the expected number may give too low a number, and the campaign is
still not completed too early.
"""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from streamer.kafka.offsets import LATEST, Offsets, OffsetsQuestion
from streamer.model.campaign import CampaignState
from streamer.progress.fold import Cursor
from streamer.progress.report import Report, Reporter
from streamer.progress.store import Due, Snapshot, Store
from streamer.progress.summaries import Summaries

logger = logging.getLogger(__name__)

_EVERY_S = 1.0
_MAX_AT_ONCE = 500


class EndOffsets:
    """The end offsets of partitions at one moment, and whether a reader has reached them."""

    def __init__(self, admin: AdminClient, cursors: Iterable[Cursor]) -> None:
        partitions = {(cursor.topic, cursor.partition) for cursor in cursors}
        self._question = OffsetsQuestion(admin, partitions, LATEST)
        self._ends: Offsets | None = None

    def reached(self, positions: Mapping[Cursor, int]) -> bool:
        """Whether every position is at or past its end. Does not block.

        Raises:
            KafkaException: the end offsets cannot be read.
        """
        if self._ends is None:
            if not self._question.is_answered:
                return False
            self._ends = self._question.answer()
        return all(
            at >= self._ends.get((cursor.topic, cursor.partition), 0)
            for cursor, at in positions.items()
        )


class CompletionChecker:
    """Completes campaigns and publishes a summary after each change of their counts.

    After a crash a campaign is still due and is checked again. Published summaries are recognised
    by a digest stored after publishing; a crash between the two repeats the same summary.
    """

    def __init__(
        self, store: Store, reporter: Reporter, summaries: Summaries, admin: AdminClient
    ) -> None:
        self._store = store
        self._reporter = reporter
        self._summaries = summaries
        self._admin = admin
        self._due: list[Due] = []
        self._ends: EndOffsets | None = None
        self._next = 0.0

    def step(
        self, generation: str, positions: Mapping[Cursor, int], changed: Callable[[list[Due]], None]
    ) -> None:
        """Do the next step. Blocks only while Kafka accepts summaries.

        Args:
            generation: the current generation of counts.
            positions: offsets up to which everything is counted.
            changed: called with the campaigns that changed, before they are checked.

        Raises:
            redis.exceptions.RedisError: Redis cannot be used.
        """
        now = time.monotonic()
        if self._ends is None:
            if now < self._next:
                return
            self._next = now + _EVERY_S
            self._due = self._store.due()
            if self._due:
                changed(self._due)
                self._ends = EndOffsets(self._admin, positions)
            return
        try:
            if not self._ends.reached(positions):
                return
            self._ends = None
            self._check(generation)
        except KafkaException as exception:
            self._ends = None
            logger.warning(
                "cannot complete campaigns, retrying",
                extra={"error": exception.args[0].str()},
            )

    def _check(self, generation: str) -> None:
        for start in range(0, len(self._due), _MAX_AT_ONCE):
            portion = self._due[start : start + _MAX_AT_ONCE]
            complete, settled = [], []
            for due, _, report in self._fulfilled(portion, generation):
                if report is None or report.state is CampaignState.CANCELLED:
                    settled.append(due)
                elif report.state is CampaignState.PAUSED:
                    pass  # stays due, to be completed after it is resumed
                elif self._complete(due, report):
                    complete.append(due)
            self._store.settle(dict.fromkeys(settled, ""))
            self._publish(complete, generation)

    def _fulfilled(
        self, judged: Sequence[Due], generation: str
    ) -> Iterator[tuple[Due, Snapshot, Report | None]]:
        """Yield a fresh snapshot of each campaign, with its report if it is complete."""
        snapshots = self._store.snapshots(due.key for due in judged)
        for due, snapshot in zip(judged, snapshots, strict=True):
            report = self._reporter.of(due.key, snapshot, generation)
            is_fulfilled = report is not None and report.counts.fulfils(report.expected)
            yield due, snapshot, report if is_fulfilled else None

    def _complete(self, due: Due, report: Report) -> bool:
        """Complete the campaign; True if it is completed now, even if it was before."""
        state = self._store.complete(due)
        if state == CampaignState.COMPLETED and report.state is CampaignState.ACTIVE:
            logger.info("campaign completed", extra={"campaign": "/".join(due.key)})
        return state == CampaignState.COMPLETED

    def _publish(self, complete: Sequence[Due], generation: str) -> None:
        if not self._unpublished(complete, generation):
            return
        self._summaries.open()
        # Read again: only counts read after opening the producer may be published.
        unpublished = self._unpublished(complete, generation)
        if unpublished:
            self._summaries.publish({"/".join(d.key): value for d, value in unpublished.items()})
        self._store.settle({due: _digest(value) for due, value in unpublished.items()})

    def _unpublished(self, complete: Sequence[Due], generation: str) -> dict[Due, bytes]:
        """Return summaries that are not published yet; settle the other campaigns."""
        unpublished: dict[Due, bytes] = {}
        settled = []
        for due, snapshot, report in self._fulfilled(complete, generation):
            if report is None:
                continue  # changed since, so it is due again
            value = report.summary()
            if snapshot.summary == _digest(value):
                settled.append(due)
            else:
                unpublished[due] = value
        self._store.settle(dict.fromkeys(settled, ""))
        return unpublished


def _digest(summary: bytes) -> str:
    return blake2b(summary, digest_size=12).hexdigest()
