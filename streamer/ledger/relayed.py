"""A backup in Redis of how far the relay has moved the parked topic.

The broker expires the offsets of a group without members, whether workers run or not. The backup is
written after the offsets are committed: it may lack the latest commits, but is never ahead of them.
"""

from collections.abc import Mapping

from streamer.flow.offsets import OffsetSet
from streamer.ledger import keys
from streamer.ledger.connection import Client
from streamer.ledger.partition_hash import PartitionHash


class Relayed:
    """The offsets relayed by one group from one parked topic.

    Its methods raise redis.exceptions.RedisError if Redis cannot be used.

    Args:
        topic_id: as for `PartitionHash`.
    """

    def __init__(self, client: Client, group: str, topic_id: str) -> None:
        self._hash = PartitionHash(client, keys.relay_positions(group), topic_id)

    def read(self) -> dict[int, OffsetSet]:
        """Return the offsets that have left each partition.

        Raises:
            ValueError: a stored value has an unknown format, written by another version.
        """
        found: dict[int, OffsetSet] = {}
        for partition, value in self._hash.read().items():
            base, _, text = value.partition(" ")
            found[partition] = OffsetSet.decode(int(base), text)
        return found

    def keep(self, gone: Mapping[int, OffsetSet]) -> None:
        """Store the offsets that have left partitions."""
        self._hash.write({p: f"{each.base} {each.encode()}" for p, each in gone.items()})
