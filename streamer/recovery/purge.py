"""Deleting dead letters. Kafka can only delete from the beginning of a partition."""

from collections.abc import Iterable
from datetime import datetime

from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from streamer.kafka.answers import answer_of
from streamer.kafka.stored import PartitionRange, Reader
from streamer.model.instants import milliseconds


def before(reader: Reader, topic: str, until: datetime | None) -> list[PartitionRange]:
    """Return the ranges to delete: up to the current end, or to the first record since `until`.

    Raises:
        ReadError: the topic cannot be read.
        KafkaException: Kafka cannot be used.
    """
    spans = reader.spans(topic)
    if until is None:
        return spans
    younger = reader.since(topic, spans, milliseconds(until))
    return [span._replace(end=young.start) for span, young in zip(spans, younger, strict=True)]


def delete(admin: AdminClient, topic: str, spans: Iterable[PartitionRange]) -> None:
    """Permanently delete everything before the ends of the spans.

    Raises:
        KafkaException: Kafka cannot be used.
    """
    ends = [TopicPartition(topic, s.partition, s.end) for s in spans if s.start < s.end]
    for future in admin.delete_records(ends).values():
        answer_of(future)
