"""Finding the campaign of an event whose tags do not tell it from others.

The event refers to its input record, which names the campaign. It is read once for each campaign,
and then known for ever.
"""

import logging

from confluent_kafka import Consumer, KafkaError

from streamer.kafka.properties import Properties, reader_properties
from streamer.kafka.reading import PartitionReader
from streamer.ledger import keys
from streamer.ledger.connection import Client
from streamer.logs import client_logger
from streamer.model.campaign import CampaignName
from streamer.model.mail_event import CAMPAIGN_TAG, ORGANIZATION_TAG
from streamer.model.outcome import read_names
from streamer.model.published import PublishedMailEvent
from streamer.model.record import RecordId
from streamer.model.reference import TAG, campaign_check, read_reference
from streamer.settings import Settings

logger = logging.getLogger(__name__)

_PATIENCE_S = 5.0
_MAX_REMEMBERED = 10_000


def events_properties(settings: Settings) -> Properties:
    """Return the properties of a consumer that reads little, or the offsets of the events'
    group."""
    return reader_properties(
        settings,
        f"{settings.worker.id}-events",
        f"{settings.kafka.group_id}.events",
        read_ahead_kb=64,
        fetch_bytes=65_536,
    )


class CampaignFinder:
    """Finds campaigns, and remembers them."""

    def __init__(self, settings: Settings, client: Client) -> None:
        self._settings = settings
        self._client = client
        self._known: dict[str, CampaignName | None] = {}

    def find(self, event: PublishedMailEvent) -> CampaignName | None:
        """Return the campaign of an event; None if there is none.

        Raises:
            ReadError, KafkaException: the input cannot be read now.
            redis.exceptions.RedisError: Redis cannot be used.
        """
        if event.organization_id is not None and event.campaign_id is not None:
            return CampaignName(event.organization_id, event.campaign_id)
        reference = read_reference(event.tags.get(TAG, ""))
        if reference is None or event.record_id is None:
            return None
        organization = event.tags.get(ORGANIZATION_TAG, "")
        tags = f"{organization}/{event.tags.get(CAMPAIGN_TAG, '')}/{reference.check}"
        if tags not in self._known:
            if len(self._known) >= _MAX_REMEMBERED:
                self._known.clear()
            self._known[tags] = self._stored(tags) or self._read(
                event.record_id, reference.check, tags
            )
        return self._known[tags]

    def _stored(self, tags: str) -> CampaignName | None:
        stored = self._client.hget(keys.CAMPAIGN_TAGS, tags)
        if not isinstance(stored, bytes):
            return None
        return CampaignName(*stored.decode().split("/"))

    def _read(self, record_id: RecordId, check: str, tags: str) -> CampaignName | None:
        """Return the campaign that the input record names, if it is that of the reference."""
        consumer = Consumer(events_properties(self._settings), logger=client_logger("events"))
        reader = PartitionReader(consumer, 1, on_error=_ignore)
        try:
            spans = {record_id.partition: [(record_id.offset, record_id.offset + 1)]}
            for found in reader.read_spans(record_id.topic, spans, _PATIENCE_S):
                for each in found:
                    if each.message is None or each.offset != record_id.offset:
                        continue
                    names = read_names(each.message.value())
                    if names.organization is None or names.campaign_id is None:
                        continue
                    if campaign_check(names.organization, names.campaign_id) == check:
                        name = CampaignName(names.organization, names.campaign_id)
                        self._client.hset(keys.CAMPAIGN_TAGS, tags, str(name))
                        return name
        finally:
            reader.close()
        logger.warning(
            "events of a campaign that is unknown, as its records are no longer in the input",
            extra={"record": str(record_id)},
        )
        return None


def _ignore(error: KafkaError) -> None:
    """Errors in place of records end the patience, if they last."""
    del error
