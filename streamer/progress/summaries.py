"""Publishing summaries of completed campaigns."""

from collections.abc import Mapping

from streamer.kafka.transactions import TransactionalProducer
from streamer.logs import client_logger
from streamer.settings import Settings


class Summaries:
    """Writes to the compacted topic of results.

    Whoever opens it fences those before, so a summary that was made from older counts cannot
    come behind one made from newer ones: what is written was looked at after the opening.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._producer: TransactionalProducer | None = None

    def open(self) -> None:
        """Get ready; what is published was to be looked at after this.

        Raises:
            KafkaException: Kafka cannot be reached, or does not allow it.
        """
        if self._producer is not None:
            return
        client_id = f"{self._settings.worker.id}-progress"
        self._producer = TransactionalProducer(
            self._settings, client_id, "progress", 0.0, logger=client_logger("progress")
        )

    def publish(self, summaries: Mapping[str, bytes]) -> None:
        """Write summaries under their keys, all or none.

        Raises:
            KafkaException: none can be said to be written; open again.
        """
        producer, self._producer = self._producer, None  # in doubt a new one
        if producer is None:
            raise AssertionError("summaries are published before they are opened")
        with producer.transaction():
            for key, value in summaries.items():
                producer.produce(self._settings.topics.results, value, key.encode())
        self._producer = producer
