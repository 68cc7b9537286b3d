"""Reading topics for a command, with progress shown and errors ending the command."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from confluent_kafka import KafkaException

from streamer.cli.common import fail
from streamer.cli.interrupts import Interrupts
from streamer.cli.progress_bar import Show, progress_bar
from streamer.kafka.error_log import KafkaErrorLog
from streamer.kafka.reading import ReadError
from streamer.kafka.stored import Reader
from streamer.ledger import campaigns
from streamer.ledger.connection import REDIS_ERRORS, connect
from streamer.model.campaign import CampaignName
from streamer.settings import Settings

_CLOCKS_DIFFER = timedelta(hours=1)


def campaign_began(settings: Settings, campaign: CampaignName) -> datetime | None:
    """When the campaign was created, less what clocks may differ by; None if that is unknown.

    Its outcomes and events are later; those before are of one of that name that was dropped.
    """
    try:
        client = connect(settings.redis, 1)
        try:
            created_at = campaigns.created_at(client, *campaign)
        finally:
            client.close()
    except REDIS_ERRORS:  # the topics can be read without the ledger
        return None
    return None if created_at is None else created_at - _CLOCKS_DIFFER


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
