"""Reading topics for a command, with progress shown and errors ending the command."""

from collections.abc import Iterator
from contextlib import contextmanager

from confluent_kafka import KafkaException

from streamer.cli.common import fail
from streamer.cli.interrupts import Interrupts
from streamer.cli.progress_bar import Show, progress_bar
from streamer.kafka.error_log import KafkaErrorLog
from streamer.kafka.reading import Reader, ReadError
from streamer.settings import Settings


@contextmanager
def topic_reader(settings: Settings, interrupts: Interrupts | None = None) -> Iterator[Reader]:
    """A topic reader; exits with 1 if Kafka cannot be used or a topic cannot be read.

    Args:
        interrupts: raises KeyboardInterrupt while a topic is read, if a signal arrived.
    """

    @contextmanager
    def meter(label: str, total: int) -> Iterator[Show]:
        with progress_bar(label, total) as show:

            def checked(done: int, records: int) -> None:
                if interrupts is not None:
                    interrupts.check()
                show(done, records)

            yield checked

    kafka_errors = KafkaErrorLog(settings)
    reader: Reader | None = None
    try:
        reader = Reader(settings, kafka_errors, meter)
        yield reader
    except ReadError as error:
        fail(error)
    except KafkaException as error:
        fail(kafka_errors.describe(error.args[0]))
    finally:
        if reader is not None:
            reader.close()
