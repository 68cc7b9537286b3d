"""A campaign's outcomes, read from their topic."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from streamer.kafka.reading import Stored
from streamer.model.campaign import CampaignName
from streamer.model.outcome import UnreadableOutcomeError, read_outcome, same_address
from streamer.model.published import PublishedOutcome
from streamer.model.reasons import Reason, Status


class Told:
    """The outcomes of a campaign among records.

    Attributes:
        unreadable: records of the topic, of whatever campaign, that are no outcomes.
    """

    def __init__(self, campaign: CampaignName) -> None:
        self._campaign = campaign
        self.unreadable = 0

    def among(self, records: Iterable[Stored]) -> Iterator[tuple[Stored, PublishedOutcome]]:
        """The campaign's outcomes, each with the record that it stands in."""
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
    """Which outcomes of a campaign are asked for; None and empty: whatever it is.

    Attributes:
        address: in the form of `same_address`.
    """

    status: Status | None = None
    reasons: frozenset[Reason] = frozenset()
    recipient_id: str | None = None
    address: str | None = None

    def matches(self, outcome: PublishedOutcome) -> bool:
        """Whether the outcome is among them."""
        return (
            (self.status is None or outcome.status is self.status)
            and (not self.reasons or outcome.reason in self.reasons)
            and (self.recipient_id is None or outcome.recipient_id == self.recipient_id)
            and (self.address is None or same_address(outcome.email) == self.address)
        )
