"""Records in the topic `t` of a Kafka in memory."""

from streamer.kafka.transactions import TransactionalProducer
from streamer.settings import Settings
from tests.kit.fakes.kafka import FakeKafka

A, B = ("t", 0), ("t", 1)
"""Its partitions."""


def write(kafka: FakeKafka, *values: bytes, partition: tuple[str, int] = A) -> None:
    """Write in one transaction, behind which the next offset is free."""
    kafka.write((partition, value, b"key", []) for value in values)


def write_in_open_transaction(kafka: FakeKafka, value: bytes) -> TransactionalProducer:
    """Write in a transaction that stays open."""
    producer = TransactionalProducer(Settings(), "open", "open")
    producer.begin()
    producer.produce("t", value, None, 0)
    producer.flush()
    return producer
