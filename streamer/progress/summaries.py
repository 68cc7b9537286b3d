"""Publishing summaries of completed campaigns."""

from collections.abc import Mapping

from streamer.kafka.on_demand import OnDemand
from streamer.kafka.transactions import TransactionalProducer
from streamer.logs import client_logger
from streamer.settings import Settings


class Summaries:
    """Writes to the compacted results topic.

    Opening fences earlier writers. Since counts are read after opening, a summary of older counts
    cannot follow one of newer counts.
    """

    def __init__(self, settings: Settings) -> None:
        self._topic = settings.topics.results
        client_id = f"{settings.worker.id}-progress"
        self._producer = OnDemand(
            lambda: TransactionalProducer(
                settings, client_id, "progress", 0.0, logger=client_logger("progress")
            )
        )

    def open(self) -> None:
        """Open the producer; counts to publish must be read after this.

        Raises:
            KafkaException: Kafka is unavailable or denies access.
        """
        self._producer()

    def rest(self) -> None:
        """Close the producer if nothing was published lately; to be called now and then."""
        self._producer.rest()

    def publish(self, summaries: Mapping[str, bytes]) -> None:
        """Write summaries under their keys in one transaction.

        Raises:
            KafkaException: the transaction may not have been committed; open again.
        """
        producer, self._producer.current = self._producer.current, None  # after an error, a new one
        if producer is None:
            raise AssertionError("publish() called before open()")
        with producer.transaction():
            for key, value in summaries.items():
                producer.produce(self._topic, value, key.encode())
        self._producer.current = producer
