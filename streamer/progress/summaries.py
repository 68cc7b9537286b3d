"""Publishing summaries of completed campaigns."""

from collections.abc import Mapping

from confluent_kafka import KafkaError, KafkaException, Producer

from streamer.logs import client_logger
from streamer.progress.kafka import client_config
from streamer.settings import Settings

_TIMEOUT_S = 5.0


class Summaries:
    """Writes to the compacted topic of results.

    Whoever opens it fences those before, so a summary that was made from older counts cannot
    come behind one made from newer ones: what is written was looked at after the opening.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._producer: Producer | None = None

    def open(self) -> None:
        """Get ready; what is published was to be looked at after this.

        Raises:
            KafkaException: Kafka cannot be reached, or does not allow it.
        """
        if self._producer is not None:
            return
        producer = Producer(
            {
                **client_config(self._settings),
                "transactional.id": f"{self._settings.kafka.group_id}.progress",
                "transaction.timeout.ms": 10_000,
            },
            logger=client_logger("progress"),
        )
        producer.init_transactions(_TIMEOUT_S)
        self._producer = producer

    def publish(self, summaries: Mapping[str, bytes]) -> None:
        """Write summaries under their keys, all or none.

        Raises:
            KafkaException: none can be said to be written; open again.
        """
        producer, self._producer = self._producer, None  # in doubt a new one
        if producer is None:
            raise AssertionError("summaries are published before they are opened")
        producer.begin_transaction()
        for key, value in summaries.items():
            producer.produce(self._settings.topics.results, value, key.encode())
        if producer.flush(_TIMEOUT_S):
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "the summaries wait too long"))
        producer.commit_transaction(_TIMEOUT_S)
        self._producer = producer
