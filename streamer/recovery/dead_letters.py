"""Reading and filtering dead letters."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from streamer.kafka.matching import MayMatch, all_of, by_header, by_value
from streamer.kafka.stored import PartitionRange, Reader, StoredRecord
from streamer.model import record_headers
from streamer.model.campaign import CampaignName
from streamer.model.instants import milliseconds
from streamer.model.outcome import Names, read_names
from streamer.model.reasons import DeadReason
from streamer.model.record import RecordId
from streamer.model.wire import DETAIL, REASON
from streamer.recovery.prefilter import may_have_id


@dataclass(frozen=True, slots=True)
class StoredDeadLetter:
    """A dead letter: the record and the contents of its headers."""

    stored: StoredRecord
    reason: str
    detail: str
    source: RecordId
    """The original topic, partition and offset of the input record."""

    @property
    def place(self) -> str:
        """PARTITION/OFFSET in the dead letter topic."""
        return f"{self.stored.record_id.partition}/{self.stored.record_id.offset}"

    @property
    def names(self) -> Names:
        """The ids and address in its value, as far as they can be read."""
        return read_names(self.stored.value)


def read_dead_letter(stored: StoredRecord) -> StoredDeadLetter | None:
    """Read a dead letter; None if the record lacks the headers of one."""
    decoded = stored.decoded_headers
    source = record_headers.source_id(decoded)
    if source is None or REASON not in decoded:
        return None
    return StoredDeadLetter(stored, decoded[REASON], decoded.get(DETAIL, ""), source)


def read_at(reader: Reader, topic: str, partition: int, offset: int) -> StoredRecord | None:
    """Return the record at an offset, or None if there is none.

    Raises:
        ReadError: the topic cannot be read.
        KafkaException: Kafka cannot be used.
    """
    inside = [
        PartitionRange(partition, offset, offset + 1)
        for span in reader.spans(topic)
        if span.partition == partition and span.start <= offset < span.end
    ]
    return next(reader.read(topic, inside), None)


@dataclass(frozen=True, slots=True)
class DeadLetterFilter:
    """A filter for dead letters; None or empty values match everything.

    Attributes:
        reasons: allowed reasons.
        campaign: the campaign named by the value.
        organization: the organization named by the value.
        since: earliest time, inclusive.
        until: latest time, exclusive.
    """

    reasons: frozenset[DeadReason] = frozenset()
    campaign: CampaignName | None = None
    since: datetime | None = None
    until: datetime | None = None
    organization: str | None = None

    def matches(self, dead_letter: StoredDeadLetter) -> bool:
        """Whether the dead letter matches."""
        at = dead_letter.stored.timestamp_ms
        return (
            (not self.reasons or dead_letter.reason in self.reasons)
            and (self.since is None or at >= milliseconds(self.since))
            and (self.until is None or at < milliseconds(self.until))
            and (self.campaign is None or dead_letter.names[:2] == self.campaign)
            and (self.organization is None or dead_letter.names.organization == self.organization)
        )

    def may_match(self) -> MayMatch | None:
        """Return a test that leaves out only records that do not match, and parses nothing."""
        by_reason = by_header(REASON, {reason.encode() for reason in self.reasons})
        named = {self.organization, *(self.campaign or ())} - {None}
        return all_of(
            by_reason if self.reasons else None,
            *(by_value(may_have_id(each)) for each in named if each is not None),
        )

    def spans(self, reader: Reader, topic: str) -> list[PartitionRange]:
        """Return the ranges of the topic that can contain matches.

        Raises:
            ReadError: the topic cannot be read.
            KafkaException: Kafka cannot be used.
        """
        # Not since the campaign was created: what came before that is what is looked for.
        spans = reader.spans(topic)
        if self.since is not None:
            spans = reader.since(topic, spans, milliseconds(self.since))
        return spans


class DeadLetterReader:
    """Filters dead letters, and counts malformed records.

    Attributes:
        malformed: number of records without the headers of a dead letter, which are skipped. By
            `read` those are not counted that the filter leaves out.
    """

    def __init__(self, selection: DeadLetterFilter) -> None:
        self._filter = selection
        self.malformed = 0

    def read(
        self,
        reader: Reader,
        topic: str,
        spans: Iterable[PartitionRange],
        label: str | None = None,
    ) -> Iterator[StoredDeadLetter]:
        """Yield the matching dead letters of the spans, parsing few others.

        Raises:
            ReadError, KafkaException: as `Reader.read`.
        """
        yield from self.among(reader.read(topic, spans, label, self._filter.may_match()))

    def among(self, records: Iterable[StoredRecord]) -> Iterator[StoredDeadLetter]:
        """Yield the matching dead letters."""
        self.malformed = 0
        for stored in records:
            dead_letter = read_dead_letter(stored)
            if dead_letter is None:
                self.malformed += 1
            elif self._filter.matches(dead_letter):
                yield dead_letter
