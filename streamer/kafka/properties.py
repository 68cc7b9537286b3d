"""Properties of librdkafka's clients. The operator's own come last."""

from streamer.settings import Settings

Properties = dict[str, str | int | float | bool]

COMMAND = "streamer-cli"
"""The client id of commands."""

TRANSACTION_TIMEOUT_MS = 10_000
"""The next owner of a partition waits for an open transaction's end before it reads offsets."""

RECONNECT_MS = 1_000
"""How long a client waits, about, before it tries a broker again that is away: the library's own
tenth of that is twenty tries a second."""


def client_properties(settings: Settings, client_id: str) -> Properties:
    """Properties that every client has; an admin client needs no others."""
    properties: Properties = {
        "bootstrap.servers": settings.kafka.bootstrap_servers,
        "client.id": client_id,
        "reconnect.backoff.ms": RECONNECT_MS,
        **settings.kafka.common_properties,
    }
    if client_id == COMMAND:  # it says itself what went wrong
        properties |= {"client.id": COMMAND, "log_level": 0}
    return properties


def producer_properties(settings: Settings, client_id: str) -> Properties:
    """Properties of a producer."""
    return {
        "compression.type": "lz4",
        "linger.ms": 5,
        # A dead letter carries its record's value untouched, and headers on top.
        "message.max.bytes": 10_000_000,
        **client_properties(settings, client_id),
    }


def transactional_properties(settings: Settings, client_id: str, name: str) -> Properties:
    """Properties of a transactional producer.

    Its transactional id is made of the group's id and `name`: the next producer with the same
    one fences it.
    """
    return {
        "transaction.timeout.ms": TRANSACTION_TIMEOUT_MS,
        # A broker holds a topic's limit against what comes together: less than any topic allows.
        "batch.size": 131_072,
        "delivery.report.only.error": True,
        **producer_properties(settings, client_id),
        "transactional.id": f"{settings.kafka.group_id}.{name}",
    }


def member_properties(settings: Settings) -> Properties:
    """Properties of a consumer that is a member of the workers' group."""
    properties: Properties = {
        **client_properties(settings, settings.worker.id),
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


def reader_properties(
    settings: Settings, client_id: str, group_id: str, *, read_ahead_kb: int, fetch_bytes: int
) -> Properties:
    """Properties of a consumer that is assigned by hand and joins no group.

    Args:
        group_id: whose offsets it may ask for.
        read_ahead_kb: how much of a backlog lies in memory.
        fetch_bytes: of a partition, at a time; they may expand to several times that.
    """
    return {
        "group.id": group_id,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "earliest",
        "queued.max.messages.kbytes": read_ahead_kb,
        "max.partition.fetch.bytes": fetch_bytes,
        "fetch.queue.backoff.ms": 20,
        **client_properties(settings, client_id),
        # What was aborted never happened, whatever the operator's properties say.
        "isolation.level": "read_committed",
        "enable.partition.eof": True,
    }
