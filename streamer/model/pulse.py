"""The pulse of a ledger: how Kafka remembers what a ledger in Redis must contain.

The pulse is a number that only grows. Workers raise it in Redis while they work, and commit the
last value with their offsets. A ledger whose pulse is lower than a committed one has lost writes.
It is a time in ms since 1970 by Redis' clock, so that it also tells how old such a ledger is.
"""

from collections.abc import Mapping
from typing import NamedTuple


class OffsetMetadata(NamedTuple):
    """The metadata of a committed offset: `EPOCH PULSE REACH`.

    Its length does not depend on the number of partitions, organizations or shards: brokers limit
    it to 4,096 bytes by default (`offset.metadata.max.bytes`). Earlier versions wrote `EPOCH`.

    Attributes:
        epoch: the ledger's epoch; empty if another tool committed the offset.
        pulse: the ledger had at least this one; 0 if unknown.
        reach: no record of the partition from this offset on has been pinned, except those that
            were parked; None if unknown.
    """

    epoch: str
    pulse: int = 0
    reach: int | None = None

    def __str__(self) -> str:
        return f"{self.epoch} {self.pulse} {'-' if self.reach is None else self.reach}"

    @classmethod
    def parse(cls, text: str | None) -> "OffsetMetadata":
        """Parse metadata. What no version of streamer wrote is an epoch that no ledger has."""
        epoch, *numbers = (text or "").split(" ")
        if not numbers:
            return cls(epoch)
        if len(numbers) != 2 or not _is_number(numbers[0]):
            return cls(text or "")
        pulse, reach = numbers
        if reach != "-" and not _is_number(reach):
            return cls(text or "")
        return cls(epoch, int(pulse), None if reach == "-" else int(reach))


def behind(found: Mapping[str, int], expected: Mapping[str, int]) -> dict[str, int]:
    """Return the shards whose pulse is lower than expected, with that pulse; 0 if it is missing."""
    return {
        shard: found.get(shard, 0)
        for shard, pulse in expected.items()
        if found.get(shard, 0) < pulse
    }


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal()
