"""How far the workers' group has committed the input, for the case that the broker forgets it.

A broker forgets the offsets of a group some time after its last member left, and the ledger's epoch
with them, which is in their metadata. Read from the beginning then, each record would have a
second outcome. What is kept here is written after the offsets are committed, so after a crash it
may lack the last of them; it never has more.
"""

from collections.abc import Mapping
from typing import cast

from streamer.ledger import keys
from streamer.ledger.connection import Client


class InputOffsets:
    """Of one group and one input topic.

    Its methods raise redis.exceptions.RedisError if Redis cannot be used.

    Args:
        topic_id: a topic that is created again under its name has another, and nothing of it was
            committed.
    """

    def __init__(self, client: Client, group: str, topic_id: str) -> None:
        self._client = client
        self._key = keys.input_positions(group)
        self._topic_id = topic_id

    def read(self) -> dict[int, int]:
        """The offset that was committed last of each partition, as far as is known."""
        found: dict[int, int] = {}
        for name, value in self._fields():
            topic_id, _, partition = name.rpartition("/")
            if topic_id == self._topic_id:
                found[int(partition)] = int(value.partition(" ")[0])
        return found

    def epochs(self) -> set[str]:
        """The ledger's epochs under which the group's offsets were committed, of any topic."""
        return {value.partition(" ")[2] for _, value in self._fields()}

    def keep(self, offsets: Mapping[int, int], epoch: str) -> None:
        """Keep the committed offsets of partitions."""
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
