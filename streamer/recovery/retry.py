"""Retrying recipients by writing new records for them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from streamer.kafka.reading import Reader, Span, Stored
from streamer.kafka.writing import Checkpoint, no_checkpoint
from streamer.model import marks
from streamer.model.campaign import CampaignName
from streamer.model.record import Coordinates, Headers
from streamer.model.wire import REPLACES
from streamer.recovery.candidates import Candidate, Choice
from streamer.recovery.copies import Marked
from streamer.recovery.outcomes import Told
from streamer.recovery.republish import Copy, Republisher
from streamer.settings import Settings


@dataclass(slots=True)
class Retry:
    """The result of a retry, or of a dry run.

    Attributes:
        selected: number of selected recipients.
        already: retried before.
        retried: written now, or in a dry run to be written.
        gone: not retried, because the original record was deleted.
        too_large: rejected by Kafka because of their size.
        unreadable: records of the outcomes topic that are not outcomes.
        planned: in a dry run, the outcomes to be retried.
    """

    selected: int = 0
    already: int = 0
    retried: int = 0
    gone: int = 0
    too_large: int = 0
    unreadable: int = 0
    planned: list[Candidate] = field(default_factory=list)


class Retrier:
    """Retries recipients of a campaign, each outcome once."""

    def __init__(
        self, settings: Settings, reader: Reader, campaign: CampaignName, choice: Choice
    ) -> None:
        self._settings = settings
        self._reader = reader
        self._campaign = campaign
        self._choice = choice
        self._republisher = Republisher(settings, reader, "retry", marks.RETRY_OF)
        self._chosen: dict[Coordinates, Candidate] = {}
        self.result = Retry()

    def plan(self) -> None:
        """Dry run: fill `result` without writing. Does not disturb a running retry.

        Raises:
            ReadError: a topic cannot be read.
            KafkaException: Kafka cannot be used.
        """
        self._select()
        for copy in self._republisher.plan(self._chosen, self._due):
            self.result.planned.append(self._chosen[copy.source])
        self.result.retried = len(self.result.planned)
        self._settle()

    def run(self, checkpoint: Checkpoint = no_checkpoint) -> None:
        """Retry the recipients; after an error `result` shows what was done.

        Raises:
            ReadError: a topic cannot be read.
            WriteError: nothing more can be written.
            KafkaException: Kafka cannot be used.
        """
        self._select()
        for _, is_written in self._republisher.run(self._chosen, self._due, checkpoint):
            self.result.retried += is_written
            self.result.too_large += not is_written
        self._settle()

    def _select(self) -> None:
        topic = self._settings.topics.outcomes
        # Up to the very end: an outcome in an open transaction may be `sent`.
        spans = self._reader.spans(topic, undecided=True)
        told = Told(self._campaign)
        for _, outcome in told.among(self._reader.read(topic, spans, "outcomes")):
            self._choice.nominate(outcome)
        self.result.unreadable = told.unreadable
        if self._choice.is_empty:
            return
        for _, outcome in told.among(self._reader.read(topic, spans, "outcomes again")):
            self._choice.weigh(outcome)
        self._chosen = {outcome.coordinates: outcome for outcome in self._choice.chosen()}
        self.result.selected = len(self._chosen)

    def _due(self, marked: Marked) -> Iterator[Copy]:
        """Yield copies of the originals that still exist."""
        self.result.already = len(marked.done)
        due = self._chosen.keys() - marked.done
        spans = _around(source for source in due if marked.covers(source))
        topic = self._settings.topics.recipients
        for original in self._reader.read(topic, spans, "original records"):
            if original.coordinates in due:
                yield _copy(original, self._chosen[original.coordinates].batch_id)

    def _settle(self) -> None:
        """Count the rest as gone: their original records no longer exist."""
        result = self.result
        result.gone = result.selected - result.already - result.retried - result.too_large


def _around(sources: Iterable[Coordinates]) -> list[Span]:
    """Return for each partition the range from the first to the last source."""
    spans: dict[int, Span] = {}
    for _, partition, offset in sources:
        span = spans.get(partition, Span(partition, offset, offset + 1))
        spans[partition] = Span(partition, min(span.start, offset), max(span.end, offset + 1))
    return list(spans.values())


def _copy(original: Stored, batch_id: str | None) -> Copy:
    attempt = marks.attempt(original.words) + 1
    headers: Headers = [(marks.ATTEMPT, str(attempt).encode())]
    if batch_id is not None:
        headers.append((REPLACES, batch_id.encode()))
    return Copy(original.coordinates, original, original.value, headers)
