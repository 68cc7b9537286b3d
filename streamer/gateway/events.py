"""Writing events to Kafka, and knowing when it has them."""

import asyncio
import logging
import threading
import time
from collections import deque

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from streamer import metrics
from streamer.errors import StreamerError
from streamer.kafka.properties import producer_properties
from streamer.logs import client_logger
from streamer.model.mail_event import EventType, KeyedEvent
from streamer.settings import Settings

logger = logging.getLogger(__name__)

_ACK_MS = 8_000
"""Resend waits about 15 s for the answer to a webhook."""
_MAX_QUEUED = 20_000
_MAX_QUEUED_KB = 32_768
_POLL_S = 0.1
_LOOK_EVERY_S = 2.0
_LOOK_S = 1.0
FLUSH_S = 10.0
_TYPES = frozenset(each.value for each in EventType)


class NotWrittenError(StreamerError):
    """Kafka did not acknowledge the event. It may still be written."""


class EventWriter:
    """Writes events; each call waits until Kafka has acknowledged its event.

    Create it in the running event loop. Its thread, named `kafka`, serves the producer's callbacks
    and looks at Kafka from time to time; no other thread does.

    Attributes:
        problem: why Kafka cannot be used, or None.

    Raises:
        KafkaException: a property is invalid.
    """

    def __init__(self, settings: Settings) -> None:
        self._topic = settings.topics.events
        self._loop = asyncio.get_running_loop()
        self._done: deque[tuple[asyncio.Future[None], KafkaError | None]] = deque()
        self._stopped = threading.Event()
        self.problem: str | None = "connecting to Kafka"
        self._producer = Producer(
            {
                "queue.buffering.max.messages": _MAX_QUEUED,
                "queue.buffering.max.kbytes": _MAX_QUEUED_KB,
                **producer_properties(settings, "streamer-gateway"),
                "acks": "all",
                "enable.idempotence": True,
                "delivery.timeout.ms": _ACK_MS,
            },
            logger=client_logger("gateway"),
        )
        self._thread = threading.Thread(target=self._serve, name="kafka", daemon=True)
        self._thread.start()

    async def write(self, event: KeyedEvent) -> None:
        """Write an event, and wait until Kafka has it.

        Raises:
            NotWrittenError: Kafka has not acknowledged it.
        """
        started = time.monotonic()
        future: asyncio.Future[None] = self._loop.create_future()

        def on_delivery(error: KafkaError | None, message: Message) -> None:
            del message
            self._done.append((future, error))

        try:
            self._producer.produce(self._topic, event.value, event.key, on_delivery=on_delivery)
        except BufferError:
            raise NotWrittenError("too many events wait for Kafka") from None
        except KafkaException as error:
            raise NotWrittenError(str(error.args[0])) from None
        await future
        metrics.GATEWAY_ACK.observe(time.monotonic() - started)
        metrics.GATEWAY_EVENTS.labels(_label(event.type)).inc()

    def close(self) -> None:
        """Wait for what is being written, then stop."""
        self._producer.flush(FLUSH_S)
        self._stopped.set()
        self._thread.join(FLUSH_S)
        self._settle()

    def _serve(self) -> None:
        look_at = 0.0
        while not self._stopped.is_set():
            self._producer.poll(_POLL_S)
            if self._done:
                self._loop.call_soon_threadsafe(self._settle)
            elif time.monotonic() >= look_at:
                self._look()
                look_at = time.monotonic() + _LOOK_EVERY_S

    def _settle(self) -> None:
        """Wake all that wait for what is done, in the event loop."""
        while self._done:
            future, error = self._done.popleft()
            if future.done():  # cancelled
                continue
            if error is None:
                self.problem = None
                future.set_result(None)
            else:
                self.problem = error.str()
                future.set_exception(NotWrittenError(error.str()))

    def _look(self) -> None:
        try:
            found = self._producer.list_topics(self._topic, timeout=_LOOK_S)
            error = found.topics[self._topic].error
            problem = None if error is None else f"{self._topic}: {error.str()}"
        except KafkaException as exception:
            problem = exception.args[0].str()
        if problem != self.problem:
            log = logger.info if problem is None else logger.warning
            log("Kafka", extra={"problem": problem or "none"})
        self.problem = problem


def _label(kind: str) -> str:
    """Return the type as a label, of which there must not be many."""
    return kind if kind in _TYPES else "other"
