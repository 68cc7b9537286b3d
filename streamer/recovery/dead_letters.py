"""Reading and filtering dead letters."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from streamer.kafka.reading import Reader, Span, Stored
from streamer.model import marks
from streamer.model.campaign import CampaignName
from streamer.model.instants import milliseconds
from streamer.model.outcome import Names, read_names
from streamer.model.reasons import DeadReason
from streamer.model.record import Coordinates
from streamer.model.wire import DETAIL, REASON


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter: the record and the contents of its headers."""

    stored: Stored
    reason: str
    detail: str
    source: Coordinates
    """The original topic, partition and offset of the input record."""

    @property
    def place(self) -> str:
        """PARTITION/OFFSET in the dead letter topic."""
        return f"{self.stored.coordinates.partition}/{self.stored.coordinates.offset}"

    @property
    def names(self) -> Names:
        """The ids and address in its value, as far as they can be read."""
        return read_names(self.stored.value)


def read_letter(stored: Stored) -> Letter | None:
    """Read a dead letter; None if the record lacks the headers of one."""
    words = stored.words
    source = marks.source(words)
    if source is None or REASON not in words:
        return None
    return Letter(stored, words[REASON], words.get(DETAIL, ""), source)


def read_at(reader: Reader, topic: str, partition: int, offset: int) -> Stored | None:
    """Return the record at an offset, or None if there is none.

    Raises:
        ReadError: the topic cannot be read.
        KafkaException: Kafka cannot be used.
    """
    inside = [
        Span(partition, offset, offset + 1)
        for span in reader.spans(topic)
        if span.partition == partition and span.start <= offset < span.end
    ]
    return next(reader.read(topic, inside), None)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A filter for dead letters; None or empty values match everything.

    Attributes:
        reasons: allowed reasons.
        campaign: the campaign named by the value.
        since: earliest time, inclusive.
        until: latest time, exclusive.
    """

    reasons: frozenset[DeadReason] = frozenset()
    campaign: CampaignName | None = None
    since: datetime | None = None
    until: datetime | None = None

    def takes(self, letter: Letter) -> bool:
        """Whether the dead letter matches."""
        at = letter.stored.timestamp_ms
        return (
            (not self.reasons or letter.reason in self.reasons)
            and (self.since is None or at >= milliseconds(self.since))
            and (self.until is None or at < milliseconds(self.until))
            and (self.campaign is None or letter.names[:2] == self.campaign)
        )

    def spans(self, reader: Reader, topic: str) -> list[Span]:
        """Return the ranges of the topic that can contain matches.

        Raises:
            ReadError: the topic cannot be read.
            KafkaException: Kafka cannot be used.
        """
        spans = reader.spans(topic)
        if self.since is not None:
            spans = reader.since(topic, spans, milliseconds(self.since))
        return spans


class Letters:
    """Filters dead letters, and counts malformed records.

    Attributes:
        strangers: number of records without the headers of a dead letter, which are skipped.
    """

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self.strangers = 0

    def among(self, records: Iterable[Stored]) -> Iterator[Letter]:
        """Yield the matching dead letters."""
        self.strangers = 0
        for stored in records:
            letter = read_letter(stored)
            if letter is None:
                self.strangers += 1
            elif self._wanted.takes(letter):
                yield letter
