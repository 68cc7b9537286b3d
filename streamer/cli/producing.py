"""Producing recipient events in bounded memory, counting deliveries."""

from collections import Counter
from collections.abc import Callable
from functools import partial

from confluent_kafka import KafkaError, KafkaException, Producer

from streamer.cli.rows import InvalidRow, ParsedRow
from streamer.errors import StreamerError
from streamer.kafka.error_log import KafkaErrorLog
from streamer.kafka.metadata import partitions_of
from streamer.kafka.properties import COMMAND, Properties, producer_properties
from streamer.settings import Settings

_WAIT_S = 0.2
_METADATA_S = 5.0


class NoTopicError(StreamerError):
    """The recipients topic does not exist."""


class DeliveryStoppedError(StreamerError):
    """Kafka accepts no more records: every further row would fail too."""


class RecipientsWriter:
    """An idempotent producer of the recipients topic: its own retries write nothing twice.

    Attributes:
        delivered: number of records acknowledged by Kafka.
        failures: number of undelivered records, by reason.

    Args:
        kafka_errors: receives the client's connection errors.
        refused: called with the line and the original bytes of each row that was not delivered,
            and the reason.

    Raises:
        NoTopicError: the topic does not exist.
        KafkaException: Kafka cannot be reached.
    """

    def __init__(
        self, settings: Settings, kafka_errors: KafkaErrorLog, refused: Callable[[InvalidRow], None]
    ) -> None:
        self.delivered = 0
        self._refused = refused
        self.failures: Counter[str] = Counter()
        self._kafka_errors = kafka_errors
        self._stopped: str | None = None
        self._topic = settings.topics.recipients
        defaults: Properties = {
            # Bounds the memory used while Kafka is slower than the file.
            "queue.buffering.max.kbytes": 32_768,
            "delivery.timeout.ms": 60_000,
        }
        always: Properties = {"enable.idempotence": True}
        properties = defaults | producer_properties(settings, COMMAND) | always
        self._producer = Producer(properties, error_cb=kafka_errors.note)
        self._check_topic()

    def _check_topic(self) -> None:
        try:
            found = partitions_of(self._producer, [self._topic], _METADATA_S)
        except KafkaException:
            self._producer.poll(0)  # delivers pending errors to `trouble`
            raise
        if self._topic not in found:
            raise NoTopicError(
                f"topic {self._topic} does not exist; create it with: streamer topics create"
            )

    def write(self, row: ParsedRow) -> None:
        """Queue an event for delivery. Blocks while the producer's queue is full.

        Raises:
            DeliveryStoppedError: Kafka accepts no more records.
        """
        while True:
            try:
                counted = partial(self._count, row.line, row.raw)
                self._producer.produce(
                    self._topic, row.value, row.key.encode(), on_delivery=counted
                )
            except BufferError:
                self._producer.poll(_WAIT_S)
            except KafkaException as error:
                self._fail(row.line, row.raw, error.args[0])
                break
            else:
                break
            self._raise_if_stopped()
        self._producer.poll(0)
        self._raise_if_stopped()

    def finish(self, gives_up: Callable[[], bool]) -> int:
        """Block until every event is delivered or has failed.

        Args:
            gives_up: whether to wait no longer; asked again and again.

        Returns:
            The number of events of which it is unknown whether they were delivered.
        """
        while (left := self._producer.flush(_WAIT_S)) and not gives_up():
            pass  # short timeouts, so that signals are handled
        return left

    def _count(self, line: int, raw: bytes, error: KafkaError | None, message: object) -> None:
        del message
        if error is None:
            self.delivered += 1
        else:
            self._fail(line, raw, error)

    def _fail(self, line: int, raw: bytes, error: KafkaError) -> None:
        self.failures[error.str()] += 1
        self._refused(InvalidRow(line, f"not delivered: {error.str()}", raw))
        if error.fatal() or error.code() in (
            KafkaError._MSG_TIMED_OUT,
            KafkaError.TOPIC_AUTHORIZATION_FAILED,
            KafkaError._UNKNOWN_TOPIC,
        ):
            self._stopped = self._kafka_errors.describe(error)

    def _raise_if_stopped(self) -> None:
        if self._stopped is not None:
            raise DeliveryStoppedError(self._stopped)
