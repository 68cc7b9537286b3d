"""Publishing summaries of completed campaigns."""

from collections.abc import Mapping

from streamer.kafka.transactions import TransactionalProducer
from streamer.logs import client_logger
from streamer.settings import Settings


class Summaries:
    """Writes to the compacted results topic.

    Opening fences earlier writers. Since counts are read after opening, a summary of older counts
    cannot follow one of newer counts.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._producer: TransactionalProducer | None = None

    def open(self) -> None:
        """Open the producer; counts to publish must be read after this.

        Raises:
            KafkaException: Kafka is unavailable or denies access.
        """
        if self._producer is not None:
            return
        client_id = f"{self._settings.worker.id}-progress"
        self._producer = TransactionalProducer(
            self._settings, client_id, "progress", 0.0, logger=client_logger("progress")
        )

    def publish(self, summaries: Mapping[str, bytes]) -> None:
        """Write summaries under their keys in one transaction.

        Raises:
            KafkaException: the transaction may not have been committed; open again.
        """
        producer, self._producer = self._producer, None  # after an error, use a new one
        if producer is None:
            raise AssertionError("publish() called before open()")
        with producer.transaction():
            for key, value in summaries.items():
                producer.produce(self._settings.topics.results, value, key.encode())
        self._producer = producer
