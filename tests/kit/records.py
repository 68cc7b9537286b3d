"""Direct access to the records of a harness's topics, as another client would have."""

from collections import Counter

from confluent_kafka import Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from streamer.kafka.headers import header_list
from streamer.model import record_headers
from streamer.model.record import Headers, RecordId
from streamer.model.wire import DETAIL, REASON, source_headers
from tests.kit.harness import Harness


def decode_headers(message: Message) -> dict[str, str]:
    """Return a record's headers as text."""
    return record_headers.decode_headers(header_list(message) or [])


class Records:
    """Writes, deletes and reads records of a harness's topics."""

    def __init__(self, harness: Harness) -> None:
        self._harness = harness
        self._producer = Producer(
            {
                "bootstrap.servers": harness.bootstrap_servers,
                "message.max.bytes": 10_000_000,
                "log_level": 0,
            }
        )

    def write(
        self,
        topic: str,
        value: bytes | None,
        headers: Headers | None = None,
        partition: int = 0,
        key: bytes = b"key",
    ) -> None:
        """Write a record."""
        self._producer.produce(topic, value, key, partition, headers=headers or [])
        assert self._producer.flush(30) == 0

    def bury(self, value: bytes | None, offset: int, own: Headers | None = None) -> None:
        """Write a dead letter whose source is this offset of partition 0."""
        where = RecordId(self._harness.topics.recipients, 0, offset)
        headers: Headers = [
            *(own or []),
            (REASON, b"unknown_campaign"),
            (DETAIL, b"nobody knows it"),
            *source_headers(where),
        ]
        self.write(self._harness.topics.dead_letters, value, headers)

    def delete(self, topic: str) -> None:
        """Delete the records of partition 0, as retention does."""
        admin = AdminClient({"bootstrap.servers": self._harness.bootstrap_servers})
        for future in admin.delete_records([TopicPartition(topic, 0, -1)]).values():
            future.result()

    def copies(self, mark: str) -> list[Message]:
        """Return the input records that have a header of that name."""
        found = self._harness._read(self._harness.topics.recipients)
        return [message for message in found if mark in decode_headers(message)]

    def replays(self) -> Counter[str]:
        """Return how often each dead letter was replayed, by its source."""
        return Counter(
            decode_headers(each)[record_headers.REPLAY_OF]
            for each in self.copies(record_headers.REPLAY_OF)
        )

    def retries(self) -> list[dict[str, str]]:
        """Return the headers of each retried record."""
        return [decode_headers(each) for each in self.copies(record_headers.RETRY_OF)]
