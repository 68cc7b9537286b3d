"""Deleting dead letters. Kafka deletes from the beginning of a partition only."""

from collections.abc import Iterable
from datetime import datetime

from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from streamer.kafka.reading import Reader, Span
from streamer.model.instants import milliseconds


def before(reader: Reader, topic: str, until: datetime | None) -> list[Span]:
    """What is to be deleted: up to the end that is seen now, or to the first that is too young.

    Raises:
        ReadError: the topic cannot be read.
        KafkaException: Kafka cannot be used.
    """
    spans = reader.spans(topic)
    if until is None:
        return spans
    younger = reader.since(topic, spans, milliseconds(until))
    return [span._replace(end=young.start) for span, young in zip(spans, younger, strict=True)]


def delete(admin: AdminClient, topic: str, spans: Iterable[Span]) -> None:
    """Delete what stands before the spans' ends, for good.

    Raises:
        KafkaException: Kafka cannot be used.
    """
    ends = [TopicPartition(topic, s.partition, s.end) for s in spans if s.start < s.end]
    for future in admin.delete_records(ends).values():
        future.result()
