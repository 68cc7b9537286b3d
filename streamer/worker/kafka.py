"""How a worker speaks to Kafka: the properties of its consumer and its producer."""

import sys

from streamer.settings import Settings

Properties = dict[str, str | int | float | bool]

TRANSACTION_TIMEOUT_MS = 10_000
"""The next owner of a partition waits for an open transaction's end before it reads offsets."""

RECONNECT_MS = 1_000
"""How long a client waits, about, before it tries a broker again that is away: the library's own
tenth of that is twenty tries a second."""

_GENERATION = slice(7, 11)
"""Where the generation stands in a group's metadata: behind the name of its format."""


def consumer_config(settings: Settings) -> Properties:
    """Properties of the consumer; the operator's own come last."""
    properties: Properties = {
        "bootstrap.servers": settings.kafka.bootstrap_servers,
        "client.id": settings.worker.id,
        "reconnect.backoff.ms": RECONNECT_MS,
        "group.id": settings.kafka.group_id,
        "group.protocol": settings.kafka.group_protocol,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "earliest",
        "isolation.level": "read_committed",
        # A backlog is read ahead into memory: as far as this, not librdkafka's 64 MB. A fetch
        # is bounded as it comes, compressed; what it expands to is not, so it has to be small.
        "queued.max.messages.kbytes": 1_024,
        "max.partition.fetch.bytes": 32_768,
        "fetch.queue.backoff.ms": 20,
        "max.poll.interval.ms": 60_000,
    }
    if settings.kafka.group_protocol == "classic":
        properties |= {
            "partition.assignment.strategy": "cooperative-sticky",
            "session.timeout.ms": 10_000,
            "heartbeat.interval.ms": 2_000,
        }
    return properties | settings.kafka.properties


def producer_config(settings: Settings) -> Properties:
    """Properties of the transactional producer; the operator's own come last.

    Its transactional id is the worker's: whoever takes the worker's place fences it.
    """
    return {
        "bootstrap.servers": settings.kafka.bootstrap_servers,
        "client.id": settings.worker.id,
        "reconnect.backoff.ms": RECONNECT_MS,
        "transactional.id": f"{settings.kafka.group_id}.{settings.worker.id}",
        "transaction.timeout.ms": TRANSACTION_TIMEOUT_MS,
        "compression.type": "lz4",
        "linger.ms": 5,
        # A dead letter carries its record's value untouched, and headers on top.
        "message.max.bytes": 10_000_000,
        **settings.kafka.common_properties,
    }


def generation(metadata: object) -> int:
    """The generation in a consumer's group metadata; negative while it is no member of its group.

    A broker takes offsets of metadata with a negative one from anybody, fenced or not.
    """
    if not isinstance(metadata, bytes) or len(metadata) < _GENERATION.stop:
        return -1
    return int.from_bytes(metadata[_GENERATION], sys.byteorder, signed=True)
