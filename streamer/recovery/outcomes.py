"""Reading and filtering a campaign's outcomes."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b

from streamer.kafka.reading import StoredRecord
from streamer.model.campaign import CampaignName
from streamer.model.instants import milliseconds
from streamer.model.outcome import UnreadableOutcomeError, read_outcome, same_address
from streamer.model.published import PublishedOutcome
from streamer.model.reasons import Reason, Status


class OutcomeReader:
    """Reads the outcomes of one campaign.

    Attributes:
        unreadable: number of records, of any campaign, that are not outcomes.
        found: number of outcomes of the campaign.
    """

    def __init__(self, campaign: CampaignName) -> None:
        self._campaign = campaign
        self.unreadable = 0
        self.found = 0

    def among(
        self, records: Iterable[StoredRecord]
    ) -> Iterator[tuple[StoredRecord, PublishedOutcome]]:
        """Yield the campaign's outcomes with their records."""
        self.unreadable = self.found = 0
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
