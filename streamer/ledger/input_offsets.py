"""A backup in Redis of the input offsets committed by the workers' group.

A broker deletes the offsets of a group some time after its last member has left, and with them the
ledger's epoch in their metadata. If the input were then read from the beginning, each record would
get a second outcome. The backup is written after the offsets are committed: after a crash it may
lack the latest commits, but it is never ahead of them.
"""

from collections.abc import Mapping
from typing import cast

from streamer.ledger import keys
from streamer.ledger.connection import Client


class InputOffsets:
    """The committed offsets of one group in one input topic.

    Its methods raise redis.exceptions.RedisError if Redis cannot be used.

    Args:
        topic_id: identifies the topic. A topic re-created under the same name has a new id, and
            nothing of it was committed.
    """

    def __init__(self, client: Client, group: str, topic_id: str) -> None:
        self._client = client
        self._key = keys.input_positions(group)
        self._topic_id = topic_id

    def read(self) -> dict[int, int]:
        """Return the last known committed offset of each partition."""
        found: dict[int, int] = {}
        for name, value in self._fields():
            topic_id, _, partition = name.rpartition("/")
            if topic_id == self._topic_id:
                found[int(partition)] = int(value.partition(" ")[0])
        return found

    def epochs(self) -> set[str]:
        """Return the ledger epochs under which the group committed offsets, in any topic."""
        return {value.partition(" ")[2] for _, value in self._fields()}

    def keep(self, offsets: Mapping[int, int], epoch: str) -> None:
        """Store the committed offsets of partitions."""
        if offsets:
            self._client.hset(
                self._key,
                mapping={
                    f"{self._topic_id}/{partition}": f"{offset} {epoch}"
                    for partition, offset in offsets.items()
                },
            )

    def _fields(self) -> list[tuple[str, str]]:
        found = cast(dict[bytes, bytes], self._client.hgetall(self._key))
        return [(name.decode(), value.decode()) for name, value in found.items()]
