"""Completing campaigns and publishing their results.

A campaign is closed when all its recipients are in the input: by `campaign close`, by
`produce --done`, or here, once as many were received as are expected. Closing notes where the input
ends. The campaign is complete when the workers' group has passed these ends, and nothing of it is
parked.

The order of reading makes that exact: first how far the group is, then where the progress topic
ends, and the counts once they are up to there. What the group has passed was counted in the same
transactions.
"""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from streamer.kafka.offsets import LATEST, Offsets, OffsetsQuestion, Partition, end_offsets
from streamer.ledger.input_offsets import InputOffsets
from streamer.logs import LastingProblem
from streamer.model.campaign import CampaignState
from streamer.progress.report import Report, Reporter
from streamer.progress.store import Due, Snapshot, Store
from streamer.progress.summaries import Summaries

logger = logging.getLogger(__name__)

_EVERY_S = 1.0
_MAX_AT_ONCE = 500


class EndOffsets:
    """The end offsets of partitions at one moment, and whether a reader has reached them."""

    def __init__(self, admin: AdminClient, partitions: Iterable[Partition]) -> None:
        self._question = OffsetsQuestion(admin, partitions, LATEST)
        self._ends: Offsets | None = None

    def reached(self, positions: Mapping[Partition, int]) -> bool:
        """Whether every position is at or past its end. Does not block.

        Raises:
            KafkaException: the end offsets cannot be read.
        """
        if self._ends is None:
            if not self._question.is_answered:
                return False
            self._ends = self._question.answer()
        return all(at >= self._ends.get(partition, 0) for partition, at in positions.items())


class CompletionChecker:
    """Completes campaigns and publishes a summary after each change of their counts.

    After a crash a campaign is still due and is checked again. Published summaries are recognised
    by a mark stored after publishing; a crash between the two repeats the same summary. None is
    replaced by one of fewer recipients, which has lost counts to an expiry or to retention.

    Args:
        admin: returns the admin client.
        topic: the workers' input.
        inputs: how far their group has committed it.
    """

    def __init__(
        self,
        store: Store,
        reporter: Reporter,
        summaries: Summaries,
        admin: Callable[[], AdminClient],
        topic: str,
        inputs: InputOffsets,
    ) -> None:
        self._store = store
        self._reporter = reporter
        self._summaries = summaries
        self._admin = admin
        self._topic = topic
        self._inputs = inputs
        self._due: list[Due] = []
        self._passed: Mapping[int, int] = {}
        self._ends: EndOffsets | None = None
        self._next = 0.0
        self._problem = LastingProblem(
            logger, "cannot complete campaigns, retrying", "campaigns can be completed again"
        )

    def step(
        self,
        generation: str,
        positions: Mapping[Partition, int],
        changed: Callable[[list[Due]], None],
    ) -> None:
        """Do the next step. Blocks only while Kafka accepts summaries or returns offsets.

        Args:
            generation: the current generation of counts.
            positions: offsets of the progress topic up to which everything is counted.
            changed: called with the campaigns that changed, before they are checked.

        Raises:
            redis.exceptions.RedisError: Redis cannot be used.
        """
        now = time.monotonic()
        if self._ends is None:
            if now < self._next:
                return
            self._due = self._store.due()
            self._next = now + _EVERY_S * (1 + len(self._due) // _MAX_AT_ONCE)
            if self._due:
                changed(self._due)
                self._passed = self._inputs.read()  # before the ends are asked for
                self._ends = EndOffsets(self._admin(), positions)
            return
        try:
            if not self._ends.reached(positions):
                return
            self._ends = None
            self._check(generation)
        except KafkaException as exception:
            self._ends = None
            self._problem.note(exception.args[0].str())
        else:
            self._problem.end()

    def _check(self, generation: str) -> None:
        for start in range(0, len(self._due), _MAX_AT_ONCE):
            portion = self._due[start : start + _MAX_AT_ONCE]
            closed: list[Due] = []
            complete, settled = [], []
            for due, snapshot, report in self._reports(portion, generation):
                if report is None or report.state is CampaignState.CANCELLED:
                    settled.append(due)
                elif report.counts.parked:
                    settled.append(due)  # due again when they have ended
                elif snapshot.closed is None:
                    (closed if report.is_expected_reached else settled).append(due)
                elif report.state is CampaignState.PAUSED or not self._is_passed(snapshot.closed):
                    pass  # stays due
                elif self._complete(due, report):
                    complete.append(due)
            self._store.settle(dict.fromkeys(settled, ""))
            self._close(closed)
            self._publish(complete, generation)

    def _close(self, closed: Sequence[Due]) -> None:
        """Close campaigns of which as many records were received as are expected."""
        if closed:
            ends = end_offsets(self._admin(), self._topic)
            for due in closed:
                self._store.close(due.name, ends)

    def _reports(
        self, judged: Sequence[Due], generation: str
    ) -> Iterator[tuple[Due, Snapshot, Report | None]]:
        """Yield a fresh snapshot of each campaign, with its report if it is known."""
        snapshots = self._store.snapshots(due.name for due in judged)
        for due, snapshot in zip(judged, snapshots, strict=True):
            yield due, snapshot, self._reporter.of(due.name, snapshot, generation)

    def _is_passed(self, ends: Mapping[int, int]) -> bool:
        """Whether the workers' group has committed offsets up to these ends."""
        return all(self._passed.get(partition, 0) >= end for partition, end in ends.items())

    def _complete(self, due: Due, report: Report) -> bool:
        """Complete the campaign; True if it is completed now, even if it was before."""
        state = self._store.complete(due)
        if state == CampaignState.COMPLETED and report.state is CampaignState.ACTIVE:
            logger.info("campaign completed", extra={"campaign": str(due.name)})
        return state == CampaignState.COMPLETED

    def _publish(self, complete: Sequence[Due], generation: str) -> None:
        if not self._unpublished(complete, generation):
            return
        self._summaries.open()
        # Read again: only counts read after opening the producer may be published.
        unpublished = self._unpublished(complete, generation)
        if unpublished:
            self._summaries.publish({str(r.name): r.summary() for r in unpublished.values()})
        self._store.settle({due: _mark(report) for due, report in unpublished.items()})

    def _unpublished(self, complete: Sequence[Due], generation: str) -> dict[Due, Report]:
        """Return reports whose summaries are not published yet; settle the other campaigns."""
        unpublished: dict[Due, Report] = {}
        settled = []
        for due, snapshot, report in self._reports(complete, generation):
            if report is None or report.counts.parked:
                continue  # changed since, so it is due again
            most = int((snapshot.published or "0").partition(":")[0])
            if snapshot.published == _mark(report) or report.counts.received < most:
                settled.append(due)
            else:
                unpublished[due] = report
        self._store.settle(dict.fromkeys(settled, ""))
        return unpublished


def _mark(report: Report) -> str:
    """Return the number of recipients in a summary, and its digest."""
    return f"{report.counts.received}:{blake2b(report.summary(), digest_size=12).hexdigest()}"
