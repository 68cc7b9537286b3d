"""A backup in Redis of how far the relay has moved the parked topic.

The broker expires the offsets of a group without members, whether workers run or not. The backup is
written after the offsets are committed: it may lack the latest commits, but is never ahead of them.
"""

from collections.abc import Mapping
from typing import cast

from streamer.flow.offsets import OffsetSet
from streamer.ledger import keys
from streamer.ledger.connection import Client


class Relayed:
    """The offsets relayed by one group from one parked topic.

    Its methods raise redis.exceptions.RedisError if Redis cannot be used.

    Args:
        topic_id: identifies the topic. A topic re-created under the same name has a new id, and
            nothing has left it yet.
    """

    def __init__(self, client: Client, group: str, topic_id: str) -> None:
        self._client = client
        self._key = keys.relay_positions(group)
        self._topic_id = topic_id

    def read(self) -> dict[int, OffsetSet]:
        """Return the offsets that have left each partition.

        Raises:
            ValueError: a stored value has an unknown format, written by another version.
        """
        fields = cast(dict[bytes, bytes], self._client.hgetall(self._key))
        found: dict[int, OffsetSet] = {}
        for name, value in fields.items():
            topic_id, _, partition = name.decode().rpartition("/")
            if topic_id == self._topic_id:
                base, _, text = value.decode().partition(" ")
                found[int(partition)] = OffsetSet.decode(int(base), text)
        return found

    def keep(self, gone: Mapping[int, OffsetSet]) -> None:
        """Store the offsets that have left partitions."""
        if gone:
            self._client.hset(
                self._key,
                mapping={
                    f"{self._topic_id}/{partition}": f"{each.base} {each.encode()}"
                    for partition, each in gone.items()
                },
            )
