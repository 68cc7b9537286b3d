"""Background errors of a Kafka client, used to explain failed calls."""

from confluent_kafka import KafkaError, KafkaException

from streamer.settings import Settings

_REFUSALS = (
    KafkaError._AUTHENTICATION,
    KafkaError._SSL,
    KafkaError.SASL_AUTHENTICATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
)


def cause_of(error: Exception) -> str:
    """Return an error's words; those of a KafkaException without what it says to programs."""
    return str(error.args[0].str() if isinstance(error, KafkaException) else error)


class KafkaErrorLog:
    """Keeps a Kafka client's last background error, to explain why its calls fail."""

    def __init__(self, settings: Settings) -> None:
        self._address = settings.kafka.bootstrap_servers
        self._last: str | None = None
        self.is_refusal = False
        """Whether the last error will not pass by itself, as a wrong password."""

    def note(self, error: KafkaError) -> None:
        """Record an error; pass this method as librdkafka's `error_cb`."""
        if error.code() != KafkaError._ALL_BROKERS_DOWN:  # the other errors carry the cause
            self._last = error.str().partition(" (after")[0]
            self.is_refusal = error.code() in _REFUSALS

    def describe(self, error: KafkaError) -> str:
        """Return a message that explains a failed call, including the last background error."""
        text = f"Kafka at {self._address}: {error.str()}"
        if self._last is not None:
            text += f" ({self._last})"
        if error.code() in (KafkaError._TRANSPORT, KafkaError._TIMED_OUT):
            text += "; check that it is running, and kafka.bootstrap_servers"
        return text
