"""Error messages for when Redis cannot be used."""

from urllib.parse import urlsplit

from redis.exceptions import RedisClusterException

from streamer.ledger.connection import UNREACHABLE
from streamer.settings import Settings


def redis_failure(settings: Settings, error: Exception) -> str:
    """Return the message for an error raised by the Redis client."""
    text = f"Redis at {redis_address(settings.redis.url)}: {error}"
    if isinstance(error, (*UNREACHABLE, RedisClusterException)):
        text += "; check that it is running, redis.url and redis.cluster"
    return text


def redis_address(url: str) -> str:
    """Return the address in a Redis URL, without credentials."""
    parts = urlsplit(url)
    return parts.path if parts.scheme == "unix" else f"{parts.hostname}:{parts.port or 6379}"
