"""Background errors of a Kafka client, used to explain failed calls."""

from confluent_kafka import KafkaError

from streamer.settings import Settings


class KafkaErrorLog:
    """Keeps a Kafka client's last background error, to explain why its calls fail."""

    def __init__(self, settings: Settings) -> None:
        self._address = settings.kafka.bootstrap_servers
        self._last: str | None = None

    def note(self, error: KafkaError) -> None:
        """Record an error; pass this method as librdkafka's `error_cb`."""
        if error.code() != KafkaError._ALL_BROKERS_DOWN:  # the other errors carry the cause
            self._last = error.str().partition(" (after")[0]

    def describe(self, error: KafkaError) -> str:
        """Return a message that explains a failed call, including the last background error."""
        text = f"Kafka at {self._address}: {error.str()}"
        if self._last is not None:
            text += f" ({self._last})"
        if error.code() in (KafkaError._TRANSPORT, KafkaError._TIMED_OUT):
            text += "; check that it is running, and kafka.bootstrap_servers"
        return text
