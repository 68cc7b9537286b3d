"""Compares the ledger in Redis with what the committed offsets in Kafka say of it."""

from contextlib import closing
from dataclasses import dataclass
from typing import cast

from streamer.kafka.offsets import GroupOffsets
from streamer.kafka.stored import Reader
from streamer.ledger import keys
from streamer.ledger.connection import Client
from streamer.ledger.pulse import PulseStatus, read_pulses
from streamer.model.pulse import OffsetMetadata
from streamer.settings import Settings


@dataclass(frozen=True, slots=True)
class CommittedOffset:
    """An input offset that the workers' group has committed.

    Attributes:
        end: the end of the partition.
    """

    partition: int
    offset: int
    metadata: OffsetMetadata
    end: int


@dataclass(frozen=True, slots=True)
class LedgerComparison:
    """The ledger, and what Kafka says of it.

    Attributes:
        epoch: the epoch in Redis; None if there is none.
        offsets: the committed offsets.
        pulses: the pulses in Redis.
        slots: the epoch's keys of the slots that should have it.
        without_epoch: those of them that do not have it.
    """

    epoch: str | None
    offsets: list[CommittedOffset]
    pulses: PulseStatus
    slots: list[str]
    without_epoch: list[str]

    @property
    def committed_epochs(self) -> set[str]:
        """The epochs under which offsets were committed."""
        return {each.metadata.epoch for each in self.offsets if each.metadata.epoch}

    @property
    def committed_pulse(self) -> int:
        """The highest pulse that was committed; 0 if none was."""
        return max((each.metadata.pulse for each in self.offsets), default=0)

    @property
    def behind(self) -> dict[str, int]:
        """The slots that lack writes, by their epochs' keys, with their pulses; 0 if missing."""
        lost = dict.fromkeys(self.without_epoch, 0)
        if self.epoch is None and self.committed_epochs:
            lost[keys.EPOCH] = 0
        return {**self.pulses.behind(self.committed_pulse), **lost}

    @property
    def is_another(self) -> bool:
        """Whether Redis has the ledger of other offsets."""
        return self.epoch is not None and bool(self.committed_epochs - {self.epoch})

    @property
    def since_ms(self) -> int | None:
        """From when on writes are missing, in ms since 1970; None if none are."""
        found = [*self.behind.values()]
        if self.pulses.rebuild_since_ms is not None:
            found.append(self.pulses.rebuild_since_ms)
        return min(found, default=None)


def compare(settings: Settings, client: Client, reader: Reader) -> LedgerComparison:
    """Read the committed offsets, then the ledger.

    Raises:
        ReadError: the input topic does not exist.
        KafkaException: Kafka cannot be used.
        redis.exceptions.RedisError: Redis cannot be used.
    """
    topic = settings.topics.recipients
    ends = {span.partition: span.end for span in reader.spans(topic)}
    with closing(GroupOffsets(settings, settings.kafka.group_id)) as group:
        known = group.read([(topic, number) for number in ends])
    offsets = [
        CommittedOffset(number, at.offset, OffsetMetadata.parse(at.metadata), ends[number])
        for (_, number), at in sorted(known.items())
        if at.offset >= 0
    ]
    epoch = client.get(keys.EPOCH)
    listed = cast(set[bytes], client.smembers(keys.EPOCH_SLOTS))
    slots = sorted(slot.decode() for slot in listed)
    return LedgerComparison(
        epoch.decode() if isinstance(epoch, bytes) else None,
        offsets,
        read_pulses(client, settings.kafka.group_id, [each.metadata.pulse for each in offsets]),
        slots,
        [slot for slot in slots if not client.exists(slot)],
    )
