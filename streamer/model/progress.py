"""What a transaction adds to the counts of the campaigns in it, and its record in Kafka. Pure.

A record counts once: when its outcome or dead letter is committed. Until then it counts only if it
was parked, as `parked`, also after it has returned to the input. So a campaign's counts are the
sum of its progress records.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from operator import attrgetter

from pydantic import ValidationError

from streamer.model.campaign import CampaignName, Id, Model
from streamer.model.encoding import to_json
from streamer.model.reasons import Reason, Status
from streamer.model.record import DeadLetter, Outcome, Parked, Record
from streamer.model.wire import timestamp

PARKED, DEAD = "parked", "dead"

_SEPARATOR = ":"


@dataclass(slots=True)
class CountDelta:
    """What some records add to a campaign's counts.

    Attributes:
        counts: amounts to add, by `status:reason`, `sent` or `parked`. Dead letters have the status
            `dead`. Only `parked` may be negative.
        first: earliest `occurred_at` of an outcome.
        last: latest `occurred_at` of an outcome.
    """

    counts: dict[str, int] = field(default_factory=dict)
    first: str | None = None
    last: str | None = None

    def add(self, word: str, count: int = 1) -> None:
        """Add to a count."""
        self.counts[word] = self.counts.get(word, 0) + count

    def happened(self, time: str) -> None:
        """Include the time of an outcome; the fixed format makes times comparable as text."""
        if self.first is None or time < self.first:
            self.first = time
        if self.last is None or time > self.last:
            self.last = time


def progress_records(records: Sequence[Record]) -> list[tuple[bytes, bytes]]:
    """Return the progress records, as value and key, of a transaction that resolves these records.

    There is one for each campaign named by a record, even by one that is not a valid event.
    """
    deltas: defaultdict[CampaignName, CountDelta] = defaultdict(CountDelta)
    outcomes = [record for record in records if isinstance(record.resolution, Outcome)]
    # Equal ones are counted in C: nearly all of a batch are.
    for (*ids, reason, decided_at, was_parked), count in Counter(map(_facts, outcomes)).items():
        delta = deltas[CampaignName(*ids)]
        delta.add(_WORDS[reason], count)
        delta.happened(timestamp(decided_at))
        if was_parked:
            delta.add(PARKED, -count)
    for record in records if len(outcomes) < len(records) else ():
        _count_unusual(record, deltas)
    return [(_value(name, delta), str(name).encode()) for name, delta in deltas.items()]


def named_campaign(value: bytes | None) -> CampaignName | None:
    """Return the campaign that a value names, even if it is not a valid recipient event."""
    try:
        named = _CampaignIds.model_validate_json(value or b"")
    except ValidationError:
        return None
    return CampaignName(named.organization_id, named.campaign_id)


def split_word(word: str) -> tuple[str, str]:
    """Split the word of a count into status and reason, which is empty if there is none."""
    status, _, reason = word.partition(_SEPARATOR)
    return status, reason


class _CampaignIds(Model):
    organization_id: Id
    campaign_id: Id


_facts: Callable[[Record], tuple[str, str, Reason | None, float, bool]] = attrgetter(
    "organization_id", "campaign_id", "resolution.reason", "decided_at", "was_parked"
)
"""What matters of a record with an outcome."""


def _count_unusual(record: Record, deltas: defaultdict[CampaignName, CountDelta]) -> None:
    """Count a dead letter or a parked record."""
    resolution = record.resolution
    if isinstance(resolution, DeadLetter):
        name = (
            CampaignName(record.organization_id, record.campaign_id)
            if record.organization_id
            else named_campaign(record.value)
        )
        if name is not None:
            deltas[name].add(DEAD + _SEPARATOR + resolution.reason)
            if record.was_parked:
                deltas[name].add(PARKED, -1)
    elif isinstance(resolution, Parked) and not record.was_parked:
        deltas[CampaignName(record.organization_id, record.campaign_id)].add(PARKED)


def _value(name: CampaignName, delta: CountDelta) -> bytes:
    return to_json(
        {
            "organization_id": name.organization,
            "campaign_id": name.campaign_id,
            "counts": delta.counts,
            "first": delta.first,
            "last": delta.last,
        }
    )


_WORDS: dict[Reason | None, str] = {
    None: Status.SENT.value,
    **{reason: f"{reason.status}{_SEPARATOR}{reason}" for reason in Reason},
}
