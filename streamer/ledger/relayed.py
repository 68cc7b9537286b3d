"""How far the relay has moved the parked topic, for the case that the broker forgets it.

The broker's offsets of a group without members expire, whether workers run or not. What is kept
here is written after they are committed, so it may lack the last of them, and never has more.
"""

from collections.abc import Mapping
from typing import cast

from streamer.flow.offsets import OffsetSet
from streamer.ledger import keys
from streamer.ledger.connection import Client


class Relayed:
    """Of one group's relay and one parked topic.

    Its methods raise redis.exceptions.RedisError if Redis cannot be used.

    Args:
        topic_id: a topic that is created again under its name has another, and nothing has left it.
    """

    def __init__(self, client: Client, group: str, topic_id: str) -> None:
        self._client = client
        self._key = keys.relay_positions(group)
        self._topic_id = topic_id

    def read(self) -> dict[int, OffsetSet]:
        """What has left each partition.

        Raises:
            ValueError: another version wrote it.
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
        """Keep what has left partitions."""
        if gone:
            self._client.hset(
                self._key,
                mapping={
                    f"{self._topic_id}/{partition}": f"{each.base} {each.encode()}"
                    for partition, each in gone.items()
                },
            )
