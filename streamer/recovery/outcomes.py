"""Reading and filtering a campaign's outcomes."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from streamer.kafka.reading import StoredRecord
from streamer.model.campaign import CampaignName
from streamer.model.outcome import UnreadableOutcomeError, read_outcome, same_address
from streamer.model.published import PublishedOutcome
from streamer.model.reasons import Reason, Status


class OutcomeReader:
    """Reads the outcomes of one campaign.

    Attributes:
        unreadable: number of records, of any campaign, that are not outcomes.
    """

    def __init__(self, campaign: CampaignName) -> None:
        self._campaign = campaign
        self.unreadable = 0

    def among(
        self, records: Iterable[StoredRecord]
    ) -> Iterator[tuple[StoredRecord, PublishedOutcome]]:
        """Yield the campaign's outcomes with their records."""
        self.unreadable = 0
        for stored in records:
            try:
                outcome = read_outcome(stored.value)
            except UnreadableOutcomeError:
                self.unreadable += 1
                continue
            if (outcome.organization_id, outcome.campaign_id) == self._campaign:
                yield stored, outcome


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
            and (self.recipient_id is None or outcome.recipient_id == self.recipient_id)
            and (self.address is None or same_address(outcome.email) == self.address)
        )
