"""A campaign's outcomes, read from their topic."""

from collections.abc import Iterable, Iterator

from streamer.cli.repair.reading import Stored
from streamer.model.campaign import CampaignName
from streamer.model.outcome import UnreadableOutcomeError, read_outcome
from streamer.model.published import PublishedOutcome


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
