"""Properties of librdkafka clients. The operator's own properties override the defaults."""

from streamer.settings import Settings

Properties = dict[str, str | int | float | bool]

COMMAND = "streamer-cli"
"""The client id of commands."""

TRANSACTION_TIMEOUT_MS = 10_000
"""Kept short: a partition's next owner cannot read offsets until an open transaction ends."""

_RECONNECT_MS, _MOST_RECONNECT_MS = 20, 1_000
"""The first and the longest wait before connecting to a broker again; each is twice the one before.
A new client waits for the first one as well, as it connects twice: to a bootstrap server, and then
to that broker under its own name."""


def client_properties(settings: Settings, client_id: str) -> Properties:
    """Return the properties shared by all clients; sufficient for an admin client."""
    properties: Properties = {
        "bootstrap.servers": settings.kafka.bootstrap_servers,
        "client.id": client_id,
        "reconnect.backoff.ms": _RECONNECT_MS,
        "reconnect.backoff.max.ms": _MOST_RECONNECT_MS,
        **settings.kafka.common_properties,
    }
    if client_id == COMMAND:  # commands report errors themselves
        properties |= {"client.id": COMMAND, "log_level": 0}
    return properties


def producer_properties(settings: Settings, client_id: str) -> Properties:
    """Return the properties of a producer."""
    return {
        "compression.type": "lz4",
        "linger.ms": 5,
        # A dead letter carries its record's value unchanged plus additional headers.
        "message.max.bytes": 10_000_000,
        **client_properties(settings, client_id),
    }


def transactional_properties(settings: Settings, client_id: str, name: str) -> Properties:
    """Return the properties of a transactional producer.

    Its transactional id consists of the group id and `name`. A later producer with the same id
    fences it.
    """
    return {
        "transaction.timeout.ms": TRANSACTION_TIMEOUT_MS,
        # Half of what a topic allows by default, as brokers apply its limit to whole batches. Not
        # less: while a batch waits for the one before it, librdkafka polls without a pause.
        "batch.size": 500_000,
        "delivery.report.only.error": True,
        **producer_properties(settings, client_id),
        "transactional.id": f"{settings.kafka.group_id}.{name}",
    }


def member_properties(settings: Settings, session: Properties) -> Properties:
    """Return the properties of a consumer in the workers' group.

    Args:
        session: the properties of its session; see `sessions`.
    """
    properties: Properties = {
        **client_properties(settings, settings.worker.id),
        "group.id": settings.kafka.group_id,
        "group.protocol": settings.kafka.group_protocol,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "earliest",
        "isolation.level": "read_committed",
        # Bounds the backlog prefetched into memory; librdkafka's default is 64 MB. Only the
        # compressed size of a fetch is limited, not the decompressed size, so keep it small.
        "queued.max.messages.kbytes": 1_024,
        "max.partition.fetch.bytes": 32_768,
        "fetch.queue.backoff.ms": 20,
        "max.poll.interval.ms": 60_000,
        **session,
    }
    if settings.kafka.group_protocol == "classic":
        properties["partition.assignment.strategy"] = "cooperative-sticky"
    return properties | settings.kafka.properties


def relay_group(settings: Settings) -> str:
    """Return the relay's consumer group, whose offsets say which records have left the parked
    topic."""
    return f"{settings.kafka.group_id}.relay"


def reader_properties(
    settings: Settings, client_id: str, group_id: str, *, read_ahead_kb: int, fetch_bytes: int
) -> Properties:
    """Return the properties of a manually assigned consumer that joins no group.

    Args:
        group_id: the group whose committed offsets it can read.
        read_ahead_kb: the maximum backlog prefetched into memory.
        fetch_bytes: the maximum fetch size per partition, compressed; it may expand to several
            times that.
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
        # Never read aborted records, whatever the operator's properties say.
        "isolation.level": "read_committed",
        "enable.partition.eof": True,
    }
