"""A backup in Redis of the input offsets committed by the workers' group.

A broker deletes the offsets of a group some time after its last member has left, and with them the
ledger's epoch in their metadata. If the input were then read from the beginning, each record would
get a second outcome. The backup is written after the offsets are committed: after a crash it may
lack the latest commits, but it is never ahead of them.
"""

from collections.abc import Mapping

from streamer.ledger import keys
from streamer.ledger.connection import Client
from streamer.ledger.partition_hash import PartitionHash


class InputOffsets:
    """The committed offsets of one group in one input topic.

    Its methods raise redis.exceptions.RedisError if Redis cannot be used.

    Args:
        topic_id: as for `PartitionHash`.
    """

    def __init__(self, client: Client, group: str, topic_id: str) -> None:
        self._hash = PartitionHash(client, keys.input_positions(group), topic_id)

    def read(self) -> dict[int, int]:
        """Return the last known committed offset of each partition."""
        return {
            partition: int(value.partition(" ")[0])
            for partition, value in self._hash.read().items()
        }

    def epochs(self) -> set[str]:
        """Return the ledger epochs under which the group committed offsets, in any topic."""
        return {value.partition(" ")[2] for value in self._hash.of_all_topics()}

    def keep(self, offsets: Mapping[int, int], epoch: str) -> None:
        """Store the committed offsets of partitions."""
        self._hash.write({partition: f"{offset} {epoch}" for partition, offset in offsets.items()})
