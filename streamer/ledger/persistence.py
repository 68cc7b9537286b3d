"""Checks that Redis keeps the data it has acknowledged, and says what that covers."""

import logging
from typing import NamedTuple

from redis import Redis
from redis.exceptions import ResponseError

from streamer.errors import WrongUseError
from streamer.ledger.connection import Client, Durability, RedisRefusedError

logger = logging.getLogger(__name__)


class UnsafeRedisError(WrongUseError):
    """Redis may forget claims, or cannot confirm writes; the message says what to configure."""


class Persistence(NamedTuple):
    """How Redis keeps its data; in a cluster, how its weakest primary does.

    Each is None if the server does not allow the query, as some hosted servers.

    Attributes:
        eviction: `maxmemory-policy`.
        appendonly: whether there is an append-only file.
        appendfsync: when that file is synced.
        replicas: connected replicas.
        min_replicas: `min-replicas-to-write`.
    """

    eviction: str | None = None
    appendonly: bool | None = None
    appendfsync: str | None = None
    replicas: int | None = None
    min_replicas: int | None = None


def read_persistence(client: Client) -> Persistence:
    """Ask all primaries how they keep their data.

    Raises:
        redis.exceptions.RedisError: Redis cannot be used.
    """
    found = [_read(server) for server in client.primaries()]
    evictions = {each.eviction for each in found}
    modes = [each.appendfsync for each in found if each.appendfsync is not None]
    replicas = [each.replicas for each in found if each.replicas is not None]
    minimums = [each.min_replicas for each in found if each.min_replicas is not None]
    appendonly = [each.appendonly for each in found if each.appendonly is not None]
    return Persistence(
        next((each for each in evictions if each not in (None, "noeviction")), found[0].eviction),
        all(appendonly) if appendonly else None,
        next((mode for mode in modes if mode != "always"), modes[0] if modes else None),
        min(replicas, default=None),
        min(minimums, default=None),
    )


def coverage(persistence: Persistence, durability: Durability) -> str:
    """Say in one line on what the promises rest: which losses Redis survives, and which not."""
    connected = "?" if persistence.replicas is None else persistence.replicas
    facts = [
        f"redis.replicas {durability.replicas} of {connected} connected",
        f"min-replicas-to-write {_shown(persistence.min_replicas)}",
        f"redis.fsync {'true' if durability.fsync else 'false'}",
        f"appendonly {_shown(persistence.appendonly)}",
        f"appendfsync {_shown(persistence.appendfsync)}",
        f"maxmemory-policy {_shown(persistence.eviction)}",
    ]
    failover = "a failover"
    if persistence.replicas is not None and 0 < durability.replicas < persistence.replicas:
        failover = f"a failover to a replica that has it ({durability.replicas} have)"
    covers = {
        "a restart of Redis": persistence.appendonly is not False,
        failover: durability.replicas > 0,
        "a power failure": persistence.appendonly is not False
        and (durability.fsync or persistence.appendfsync == "always"),
    }
    kept = [name for name, is_covered in covers.items() if is_covered]
    lost = [name for name, is_covered in covers.items() if not is_covered]
    text = f"a pin survives {', '.join(kept) or 'nothing'}"
    if lost:
        text += f"; not {', not '.join(lost)}"
    return f"{text} ({', '.join(facts)})"


def check_persistence(client: Client) -> None:
    """Check that Redis never evicts keys and can confirm writes, and log what that covers.

    Raises:
        UnsafeRedisError: Redis evicts keys when memory is short, which would lose claims, or
            cannot confirm writes as the settings demand.
        redis.exceptions.RedisError: Redis cannot be used.
    """
    persistence = read_persistence(client)
    if persistence.eviction not in (None, "noeviction"):
        raise UnsafeRedisError(
            f"Redis has maxmemory-policy {persistence.eviction}: it could evict claims, and mail "
            f"could be sent twice. CONFIG SET maxmemory-policy noeviction, and set it in redis.conf"
        )
    check_confirmations(client, persistence)
    logger.info(coverage(persistence, client.durability))
    if not persistence.appendonly and not persistence.replicas:
        logger.warning(
            "Redis has neither an append-only file nor a replica: if it restarts, the workers "
            "halt. CONFIG SET appendonly yes, and set it in redis.conf"
        )
    if persistence.replicas is not None and persistence.replicas < client.durability.replicas:
        logger.warning(
            "Redis has fewer replicas than redis.replicas: nothing is sent until they are there",
            extra={"replicas": persistence.replicas, "needed": client.durability.replicas},
        )


def check_confirmations(client: Client, persistence: Persistence) -> None:
    """Check that the servers can confirm writes as the settings demand.

    Raises:
        UnsafeRedisError: they cannot.
        redis.exceptions.RedisError: Redis cannot be used.
    """
    replicas, fsync = client.durability
    if fsync and persistence.appendonly is False:
        raise UnsafeRedisError(
            "redis.fsync needs an append-only file. CONFIG SET appendonly yes, and set it in "
            "redis.conf"
        )
    if fsync and persistence.appendfsync == "no":
        raise UnsafeRedisError(
            "redis.fsync waits for ever with appendfsync no. CONFIG SET appendfsync everysec, "
            "and set it in redis.conf"
        )
    for server in client.primaries():
        if replicas:
            _try(server, "redis.replicas needs WAIT", "WAIT", 0, 1)
        if fsync:
            _try(server, "redis.fsync needs WAITAOF (Redis 7.2 or Valkey)", "WAITAOF", 1, 0, 1)


def _try(server: Redis, needs: str, *command: str | int) -> None:
    try:
        server.execute_command(*command)  # type: ignore[no-untyped-call]  # redis-py
    except RedisRefusedError as error:
        raise UnsafeRedisError(f"{needs}, and this server refuses it: {error}") from None


def _read(server: Redis) -> Persistence:
    memory, persistence = _info(server, "memory"), _info(server, "persistence")
    replication = _info(server, "replication")
    eviction, has_aof = memory.get("maxmemory_policy"), persistence.get("aof_enabled")
    replicas = replication.get("connected_slaves")
    minimum = _setting(server, "min-replicas-to-write")
    return Persistence(
        None if eviction is None else str(eviction),
        None if has_aof is None else bool(has_aof),
        _setting(server, "appendfsync"),
        replicas if isinstance(replicas, int) else None,
        None if minimum is None else int(minimum),
    )


def _info(server: Redis, section: str) -> dict[str, object]:
    try:
        return dict(server.info(section))
    except ResponseError:
        return {}


def _setting(server: Redis, name: str) -> str | None:
    try:
        found = server.config_get(name)
    except ResponseError:
        return None
    value = found.get(name) if isinstance(found, dict) else None
    return None if value is None else str(value)


def _shown(value: str | int | None) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "unknown" if value is None else str(value)
