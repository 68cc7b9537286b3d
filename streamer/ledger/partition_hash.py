"""Values by partition of one topic, in a Redis hash that several topics share."""

from collections.abc import Mapping
from typing import cast

from streamer.ledger.connection import Client


class PartitionHash:
    """A hash with a field `TOPIC_ID/PARTITION` for each partition.

    Its methods raise redis.exceptions.RedisError if Redis cannot be used.

    Args:
        topic_id: identifies the topic. A topic re-created under the same name has a new id, and
            none of the old values.
    """

    def __init__(self, client: Client, key: str, topic_id: str) -> None:
        self._client = client
        self._key = key
        self._topic_id = topic_id

    def read(self) -> dict[int, str]:
        """Return the topic's values by partition."""
        found: dict[int, str] = {}
        for name, value in self._fields().items():
            topic_id, _, partition = name.decode().rpartition("/")
            if topic_id == self._topic_id:
                found[int(partition)] = value.decode()
        return found

    def of_all_topics(self) -> list[str]:
        """Return the values of all partitions of all topics."""
        return [value.decode() for value in self._fields().values()]

    def write(self, values: Mapping[int, str]) -> None:
        """Store the values of some partitions."""
        if values:
            self._client.hset(
                self._key, mapping={f"{self._topic_id}/{p}": value for p, value in values.items()}
            )

    def _fields(self) -> dict[bytes, bytes]:
        return cast(dict[bytes, bytes], self._client.hgetall(self._key))
