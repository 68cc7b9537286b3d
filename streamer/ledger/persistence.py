"""Checks that Redis keeps the data it has acknowledged."""

import logging
from typing import cast

from redis import RedisCluster
from redis.exceptions import ResponseError

from streamer.errors import WrongUseError
from streamer.ledger.connection import Client

logger = logging.getLogger(__name__)


class UnsafeRedisError(WrongUseError):
    """Redis may evict claims; the message says what to configure."""


def eviction_policy(client: Client) -> str | None:
    """Return `maxmemory-policy`; None if the server does not allow the query."""
    info = _info(client, "memory")
    policy = info.get("maxmemory_policy")
    return str(policy) if policy is not None else None


def is_durable(client: Client) -> bool:
    """Return whether the server has an append-only file or a replica."""
    persistence = _info(client, "persistence")
    replication = _info(client, "replication")
    return bool(persistence.get("aof_enabled")) or bool(replication.get("connected_slaves"))


def check_persistence(client: Client) -> None:
    """Check that Redis never evicts keys, and warn if it is not durable.

    Raises:
        UnsafeRedisError: Redis evicts keys when memory is short, which would lose claims.
        redis.exceptions.RedisError: Redis cannot be used.
    """
    policy = eviction_policy(client)
    if policy not in (None, "noeviction"):
        raise UnsafeRedisError(
            f"Redis has maxmemory-policy {policy}: it could evict claims, and mail "
            f"could be sent twice. CONFIG SET maxmemory-policy noeviction, and set it in redis.conf"
        )
    if not is_durable(client):
        logger.warning(
            "Redis has neither an append-only file nor a replica: if it restarts, the workers "
            "halt. CONFIG SET appendonly yes, and set it in redis.conf"
        )


def _info(client: Client, section: str) -> dict[str, object]:
    try:
        answer = client.info(section)
    except ResponseError:  # not allowed on some hosted servers
        return {}
    if isinstance(client, RedisCluster):
        # A cluster of several nodes returns one reply per node; their settings are the same.
        answer = next((node for node in answer.values() if isinstance(node, dict)), answer)
    return cast(dict[str, object], answer)
