"""When a campaign is complete, and what is published of it then.

A campaign of which is said how many recipients it has is complete when as many input records, or
more, were received, each of them has ended, and none is parked. That is judged on counts of
everything that had been written when they were asked for: the topics are first read to the ends
that they had then. So whoever writes all recipients, and only then says how many, can say less
than came, and is not answered too early.
"""

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from hashlib import blake2b

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from streamer.model.campaign import CampaignState
from streamer.progress.fold import Place
from streamer.progress.kafka import LATEST, Offsets, OffsetsQuestion
from streamer.progress.report import Reporter
from streamer.progress.store import Due, Store
from streamer.progress.summaries import Summaries

logger = logging.getLogger(__name__)

_EVERY_S = 1.0
_MOST_PUBLISHED = 500


class Ends:
    """The ends that partitions had at one moment, and whether a reader has come there."""

    def __init__(self, admin: AdminClient, places: Iterable[Place]) -> None:
        partitions = {(place.topic, place.partition) for place in places}
        self._question = OffsetsQuestion(admin, partitions, LATEST)
        self._ends: Offsets | None = None

    def reached(self, positions: Mapping[Place, int]) -> bool:
        """Whether every position is at its end, or behind it; does not wait.

        Raises:
            KafkaException: the ends cannot be had.
        """
        if self._ends is None:
            if not self._question.is_answered:
                return False
            self._ends = self._question.answer()
        return all(
            at >= self._ends.get((place.topic, place.partition), 0)
            for place, at in positions.items()
        )


class Judge:
    """Completes campaigns and publishes their summaries, one for each change of their counts.

    A crash leaves a campaign due, so it is judged again. What was published before is known by
    its digest, which is written after it: between the two a crash repeats the same summary.
    """

    def __init__(
        self, store: Store, reporter: Reporter, summaries: Summaries, admin: AdminClient
    ) -> None:
        self._store = store
        self._reporter = reporter
        self._summaries = summaries
        self._admin = admin
        self._due: list[Due] = []
        self._ends: Ends | None = None
        self._next = 0.0

    def step(
        self, generation: str, positions: Mapping[Place, int], changed: Callable[[list[Due]], None]
    ) -> None:
        """Go on; does not wait, except for Kafka to take summaries.

        Args:
            positions: up to which everything is counted.
            changed: is told which campaigns changed, before they are judged.

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
                self._ends = Ends(self._admin, positions)
            return
        try:
            if not self._ends.reached(positions):
                return
            self._ends = None
            self._judge(generation)
        except KafkaException as exception:
            self._ends = None
            logger.warning(
                "campaigns cannot be completed now, it will be tried again",
                extra={"error": exception.args[0].str()},
            )

    def _judge(self, generation: str) -> None:
        complete = [due for due in self._due if self._is_complete(due, generation)]
        for start in range(0, len(complete), _MOST_PUBLISHED):
            self._publish(complete[start : start + _MOST_PUBLISHED], generation)

    def _is_complete(self, due: Due, generation: str) -> bool:
        """Judge one; those that are not complete are settled."""
        (look,) = self._store.look([due.key])
        report = self._reporter.of(due.key, look, generation)
        if report is None or not report.counts.fulfils(report.expected):
            self._store.settle(due)
            return False
        if report.state is CampaignState.PAUSED:
            return False  # complete when it is resumed
        if report.state is CampaignState.CANCELLED:
            self._store.settle(due)
            return False
        state = self._store.complete(due)
        if state == CampaignState.COMPLETED and report.state is CampaignState.ACTIVE:
            logger.info("campaign completed", extra={"campaign": "/".join(due.key)})
        return state == CampaignState.COMPLETED

    def _publish(self, complete: list[Due], generation: str) -> None:
        if not self._needed(complete, generation):
            return
        self._summaries.open()
        # Looked at again, and in this order: see there.
        needed = self._needed(complete, generation)
        if needed:
            self._summaries.publish({"/".join(due.key): value for due, value in needed.items()})
        for due, value in needed.items():
            self._store.settle(due, _digest(value))

    def _needed(self, complete: list[Due], generation: str) -> dict[Due, bytes]:
        """The summaries that are not published yet; the others are settled."""
        needed: dict[Due, bytes] = {}
        looks = self._store.look([due.key for due in complete])
        for due, look in zip(complete, looks, strict=True):
            report = self._reporter.of(due.key, look, generation)
            if report is None or not report.counts.fulfils(report.expected):
                continue  # it changed since, so it is due again
            value = report.summary()
            if look.summary == _digest(value):
                self._store.settle(due)
            else:
                needed[due] = value
        return needed


def _digest(summary: bytes) -> str:
    return blake2b(summary, digest_size=12).hexdigest()
