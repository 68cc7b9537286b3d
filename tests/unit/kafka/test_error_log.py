"""Errors are described for people."""

from confluent_kafka import KafkaError, KafkaException

from streamer.kafka.error_log import cause_of


def test_the_cause_is_in_words() -> None:
    error = KafkaError(KafkaError.NOT_COORDINATOR, "Failed to get offsets: Broker: Not coordinator")
    assert cause_of(KafkaException(error)) == "Failed to get offsets: Broker: Not coordinator"
    assert cause_of(ValueError("no such topic")) == "no such topic"
