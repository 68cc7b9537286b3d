"""Reading and filtering a campaign's outcomes."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b

from streamer.kafka.matching import by_value
from streamer.kafka.stored import PartitionRange, Reader, StoredRecord
from streamer.model.campaign import CampaignName
from streamer.model.instants import milliseconds
from streamer.model.outcome import UnreadableOutcomeError, read_outcome, same_address
from streamer.model.published import PublishedOutcome
from streamer.model.reasons import Reason, Status
from streamer.recovery.prefilter import (
    ValueTest,
    may_have_address,
    may_have_id,
    may_have_words,
)

_ID = rb'"([A-Za-z0-9._:@-]+)"'
_BEGIN = re.compile(rb'\{"organization_id":' + _ID + rb',"campaign_id":' + _ID + rb",")
"""How workers write an outcome; those of other writers are parsed."""


class OutcomeReader:
    """Reads the outcomes of one campaign.

    Most records are told apart by how they begin, and only those that may be wanted are parsed.

    Attributes:
        unreadable: number of records that are not outcomes, and do not begin as one of another
            campaign.
        found: number of outcomes of the campaign, also of those that were not wanted.
    """

    def __init__(self, campaign: CampaignName) -> None:
        self._campaign = campaign
        self._ids = (campaign.organization.encode(), campaign.campaign_id.encode())
        self.unreadable = 0
        self.found = 0

    def read(
        self,
        reader: Reader,
        spans: Iterable[PartitionRange],
        topic: str,
        label: str | None = None,
        may_match: ValueTest | None = None,
    ) -> Iterator[tuple[StoredRecord, PublishedOutcome]]:
        """Yield the campaign's outcomes in the spans of the topic, with their records.

        Args:
            label: of the progress display, as for `Reader.read`.
            may_match: a test of the value that leaves out some that are not wanted.

        Raises:
            ReadError, KafkaException: as `Reader.read`.
        """
        self.unreadable = self.found = 0
        yield from self._parsed(reader.read(topic, spans, label, by_value(self._test(may_match))))

    def among(
        self, records: Iterable[StoredRecord], may_match: ValueTest | None = None
    ) -> Iterator[tuple[StoredRecord, PublishedOutcome]]:
        """Yield the campaign's outcomes with their records.

        Args:
            may_match: as for `read`.
        """
        self.unreadable = self.found = 0
        test = self._test(may_match)
        yield from self._parsed(each for each in records if test(each.value or b""))

    def _test(self, may_match: ValueTest | None) -> ValueTest:
        """Return a test that leaves out other campaigns too, and counts what is not wanted."""
        begins, ids = _BEGIN.match, self._ids

        def test(value: bytes) -> bool:
            begin = begins(value)
            if begin is None:
                return True
            if begin.groups() != ids:
                return False
            if may_match is None or may_match(value):
                return True
            self.found += 1
            return False

        return test

    def _parsed(
        self, records: Iterable[StoredRecord]
    ) -> Iterator[tuple[StoredRecord, PublishedOutcome]]:
        for stored in records:
            try:
                outcome = read_outcome(stored.value)
            except UnreadableOutcomeError:
                self.unreadable += 1
                continue
            if (outcome.organization_id, outcome.campaign_id) == self._campaign:
                self.found += 1
                yield stored, outcome


class LastOutcomes:
    """Finds the last outcome of each recipient in two passes: `add`, then `is_last`.

    `sent` is the last whatever came later, and `duplicate` only if there is nothing else: the
    outcome of the record that has the address counts instead. Keeps about 200 bytes for each
    recipient.
    """

    def __init__(self) -> None:
        self._last: dict[bytes, int] = {}

    def add(self, stored: StoredRecord, outcome: PublishedOutcome) -> None:
        """First pass: take an outcome into account."""
        key, rank = _recipient(outcome), _rank(stored, outcome)
        if rank > self._last.get(key, -1):
            self._last[key] = rank

    def is_last(self, stored: StoredRecord, outcome: PublishedOutcome) -> bool:
        """Second pass: whether this is the last outcome of its recipient."""
        return self._last.get(_recipient(outcome)) == _rank(stored, outcome)


def _recipient(outcome: PublishedOutcome) -> bytes:
    identity = f"{outcome.recipient_id}\n{same_address(outcome.email)}"
    return blake2b(identity.encode(errors="surrogatepass"), digest_size=12).digest()


def _rank(stored: StoredRecord, outcome: PublishedOutcome) -> int:
    """Order outcomes by what they say, then by time; different records have different ranks."""
    standing = 2 if outcome.status is Status.SENT else outcome.reason is not Reason.DUPLICATE
    _, partition, offset = stored.record_id
    at = max(0, milliseconds(outcome.occurred_at))
    return (int(standing) << 160) | (at << 96) | (partition << 64) | offset


@dataclass(frozen=True, slots=True)
class OutcomeFilter:
    """A filter for a campaign's outcomes; None or empty values match everything.

    Attributes:
        status: the status.
        reasons: allowed reasons.
        recipient_id: the recipient's id.
        address: the address, as returned by `same_address`.
    """

    status: Status | None = None
    reasons: frozenset[Reason] = frozenset()
    recipient_id: str | None = None
    address: str | None = None

    def of_recipient(self) -> ValueTest | None:
        """Return a test of a value for `is_of` that parses nothing; None if it is of anyone."""
        if self.recipient_id is not None:
            return may_have_id(self.recipient_id)
        return None if self.address is None else may_have_address(self.address)

    def of_words(self) -> ValueTest | None:
        """Return a test of a value for the status and the reasons that parses nothing; None if
        there are none."""
        words = self.reasons or ({self.status} if self.status is not None else None)
        return None if words is None else may_have_words(words)

    def matches(self, outcome: PublishedOutcome) -> bool:
        """Whether the outcome matches."""
        return (
            (self.status is None or outcome.status is self.status)
            and (not self.reasons or outcome.reason in self.reasons)
            and self.is_of(outcome)
        )

    def is_of(self, outcome: PublishedOutcome) -> bool:
        """Whether the outcome is of the recipient, whatever it says."""
        return (self.recipient_id is None or outcome.recipient_id == self.recipient_id) and (
            self.address is None or same_address(outcome.email) == self.address
        )
