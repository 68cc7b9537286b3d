"""Retrying recipients by writing new records for them."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from streamer.kafka.matching import by_offset
from streamer.kafka.stored import PartitionRange, Reader, StoredRecord
from streamer.kafka.writing import Checkpoint, no_checkpoint
from streamer.model import record_headers
from streamer.model.campaign import CampaignName
from streamer.model.outcome import read_names
from streamer.model.record import Headers, RecordId
from streamer.model.wire import REPLACES
from streamer.recovery.candidates import Candidate, RetrySelector
from streamer.recovery.copies import ExistingCopies
from streamer.recovery.outcomes import OutcomeReader
from streamer.recovery.prefilter import may_have_addresses
from streamer.recovery.republish import RecordCopy, Republisher
from streamer.settings import Settings


@dataclass(slots=True)
class RetryReport:
    """The result of a retry, or of a dry run.

    Attributes:
        selected: number of selected recipients.
        already: retried before, without an outcome yet.
        retried: written now, or in a dry run to be written.
        unsure: not retried, because they may have their mail from an earlier attempt.
        uncertain: of the selected, those who may have their mail already.
        gone: not retried, because Kafka no longer has the original record.
        too_large: rejected by Kafka because of their size.
        unreadable: records of the outcomes topic that are not outcomes.
        planned: in a dry run, the outcomes to be retried.
    """

    selected: int = 0
    already: int = 0
    retried: int = 0
    unsure: int = 0
    uncertain: int = 0
    gone: int = 0
    too_large: int = 0
    unreadable: int = 0
    planned: list[Candidate] = field(default_factory=list)


class Retrier:
    """Retries recipients of a campaign, each outcome once.

    Args:
        settings: the settings.
        reader: reads the topics.
        campaign: the campaign.
        selector: which of its recipients to retry.
        since_ms: before this time, in ms since 1970, the campaign has no outcomes; None if that
            is unknown.
    """

    def __init__(
        self,
        settings: Settings,
        reader: Reader,
        campaign: CampaignName,
        selector: RetrySelector,
        since_ms: int | None = None,
    ) -> None:
        self._settings = settings
        self._reader = reader
        self._campaign = campaign
        self._selector = selector
        self._since_ms = since_ms
        self._republisher = Republisher(settings, reader, "retry", record_headers.RETRY_OF)
        self._chosen: dict[RecordId, Candidate] = {}
        self._approve: Callable[[RetryReport], None] | None = None
        self.result = RetryReport()

    def plan(self) -> None:
        """Dry run: fill `result` without writing. Does not disturb a running retry.

        Raises:
            ReadError: a topic cannot be read.
            KafkaException: Kafka cannot be used.
        """
        self._select()
        for copy in self._republisher.plan(self._selector.records(), self._due):
            self.result.planned.append(self._chosen[copy.source])
        self.result.retried = len(self.result.planned)
        self._settle()

    def run(
        self,
        checkpoint: Checkpoint = no_checkpoint,
        approve: Callable[[RetryReport], None] | None = None,
    ) -> None:
        """Retry the recipients; after an error `result` shows what was done.

        Args:
            checkpoint: called at each step.
            approve: called with what is selected before anything is written; raises to refuse.

        Raises:
            ReadError: a topic cannot be read.
            WriteError: nothing more can be written.
            KafkaException: Kafka cannot be used.
        """
        self._approve = approve
        self._select()
        records = self._selector.records()
        for _, is_written in self._republisher.run(records, self._due, checkpoint):
            self.result.retried += is_written
            self.result.too_large += not is_written
        self._settle()

    def _select(self) -> None:
        topic = self._settings.topics.outcomes
        spans = self._reader.whole_since(topic, self._since_ms)
        told = OutcomeReader(self._campaign)
        selector = self._selector
        for _, outcome in told.read(self._reader, spans, topic, "outcomes", selector.prefilter):
            selector.add_candidate(outcome)
        self.result.unreadable = told.unreadable
        if selector.is_empty:
            return
        of_them = may_have_addresses(selector.addresses)
        for _, outcome in told.read(self._reader, spans, topic, "outcomes again", of_them):
            selector.update(outcome)

    def _due(self, copies: ExistingCopies) -> Iterator[RecordCopy]:
        """Yield copies of the originals that still exist."""
        selection = self._selector.select(copies.made)
        self.result.already, self.result.unsure = selection.already, selection.unsure
        self.result.selected = len(selection.due) + selection.already + selection.unsure
        self._chosen = {
            outcome.record_id: outcome
            for outcome in selection.due
            if copies.covers(outcome.record_id)
        }
        self.result.uncertain = selection.uncertain
        if self._approve is not None:
            self._approve(self.result)
        topic = self._settings.topics.recipients
        wanted = by_offset({(partition, offset) for _, partition, offset in self._chosen})
        spans = _around(self._chosen)
        for original in self._reader.read(topic, spans, "original records", wanted):
            candidate = self._chosen.get(original.record_id)
            names = read_names(original.value)
            # A topic that was created anew holds somebody else's record there.
            if candidate and names[:2] == self._campaign and candidate.is_named_by(names):
                yield _copy(original, candidate.batch_id)

    def _settle(self) -> None:
        """Count the rest as gone: their original records no longer exist."""
        result = self.result
        ended = result.already + result.unsure + result.retried + result.too_large
        result.gone = result.selected - ended


def _around(sources: Iterable[RecordId]) -> list[PartitionRange]:
    """Return for each partition the range from the first to the last source."""
    spans: dict[int, PartitionRange] = {}
    for _, partition, offset in sources:
        span = spans.get(partition, PartitionRange(partition, offset, offset + 1))
        spans[partition] = PartitionRange(
            partition, min(span.start, offset), max(span.end, offset + 1)
        )
    return list(spans.values())


def _copy(original: StoredRecord, batch_id: str | None) -> RecordCopy:
    attempt = record_headers.attempt(original.decoded_headers) + 1
    headers: Headers = [(record_headers.ATTEMPT, str(attempt).encode())]
    if batch_id is not None:
        headers.append((REPLACES, batch_id.encode()))
    return RecordCopy(original.record_id, original, original.value, headers)
