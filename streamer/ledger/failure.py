"""Error messages for when Redis cannot be used."""

from urllib.parse import urlsplit

from redis.exceptions import RedisClusterException

from streamer.ledger.confirming import UnconfirmedError
from streamer.ledger.connection import UNREACHABLE
from streamer.settings import RedisSettings as RedisSettings
from streamer.settings import Settings


def redis_failure(settings: Settings, error: Exception) -> str:
    """Return the message for an error raised by the Redis client."""
    text = f"Redis at {redis_location(settings.redis)}: {error}"
    if isinstance(error, UnconfirmedError):
        text += ": it was executed, but a failover may undo it; repeat the command"
    elif isinstance(error, (*UNREACHABLE, RedisClusterException)):
        text += "; check that it is running, and the settings of redis"
    return text


def redis_location(settings: RedisSettings) -> str:
    """Return the address of Redis, or the service and its Sentinels."""
    if settings.sentinels:
        return f"{settings.service} of {', '.join(settings.sentinels)}"
    return redis_address(settings.url)


def redis_address(url: str) -> str:
    """Return the address in a Redis URL, without credentials."""
    parts = urlsplit(url)
    return parts.path if parts.scheme == "unix" else f"{parts.hostname}:{parts.port or 6379}"
