"""Adding up progress records by campaign. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from pydantic import ValidationError

from streamer.model.campaign import CampaignName
from streamer.model.progress import PARKED, CountDelta, split_word
from streamer.model.published import PublishedProgress
from streamer.progress.counts import STATUSES


class RecordLike(Protocol):
    """The parts of `confluent_kafka.Message` that are used here."""

    def offset(self) -> int | None:
        """Return the offset."""

    def value(self) -> bytes | None:
        """Return the value."""


class Chunk(NamedTuple):
    """Consecutive records of a partition.

    Attributes:
        records: all committed records from the first one up to `end`.
        end: the position after them.
    """

    records: Sequence[RecordLike]
    end: int


@dataclass(slots=True)
class Share:
    """What a chunk adds to one campaign's counts.

    Attributes:
        start: offset of the campaign's first record in the chunk.
        end: offset after its last record.
        delta: the sum of its records.
    """

    start: int
    end: int
    delta: CountDelta


def fold(records: Iterable[RecordLike]) -> dict[CampaignName, Share]:
    """Return the share of each campaign in the records, which are in order.

    Ignores what is no progress record, and words that are unknown.
    """
    shares: dict[CampaignName, Share] = {}
    for record in records:
        try:
            read = PublishedProgress.model_validate_json(record.value() or b"")
        except ValidationError:
            continue
        name = CampaignName(read.organization_id, read.campaign_id)
        offset = record.offset() or 0
        share = shares.get(name)
        if share is None:
            share = shares[name] = Share(offset, offset, CountDelta())
        share.end = offset + 1
        for word, count in read.counts.items():
            if word == PARKED or split_word(word)[0] in STATUSES:
                share.delta.add(word, count)
        for time in filter(None, (read.first, read.last)):
            share.delta.happened(time)
    return shares
