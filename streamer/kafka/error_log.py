"""What a Kafka client met in the background, to say why a call of it failed."""

from confluent_kafka import KafkaError

from streamer.settings import Settings


class KafkaErrorLog:
    """Keeps the last error that a Kafka client met in the background, to say why it failed."""

    def __init__(self, settings: Settings) -> None:
        self._address = settings.kafka.bootstrap_servers
        self._last: str | None = None

    def note(self, error: KafkaError) -> None:
        """Take an error, as librdkafka's `error_cb` does."""
        if error.code() != KafkaError._ALL_BROKERS_DOWN:  # the others say why
            self._last = error.str().partition(" (after")[0]

    def describe(self, error: KafkaError) -> str:
        """What to say when Kafka cannot be used."""
        text = f"Kafka at {self._address}: {error.str()}"
        if self._last is not None:
            text += f" ({self._last})"
        if error.code() in (KafkaError._TRANSPORT, KafkaError._TIMED_OUT):
            text += "; is it running, and is kafka.bootstrap_servers right?"
        return text
