"""What to say to people when Redis cannot be used."""

from urllib.parse import urlsplit

from redis.exceptions import RedisClusterException

from streamer.ledger.connection import UNREACHABLE
from streamer.settings import Settings


def redis_failure(settings: Settings, error: Exception) -> str:
    """What to say when Redis cannot be used."""
    text = f"Redis at {redis_address(settings.redis.url)}: {error}"
    if isinstance(error, (*UNREACHABLE, RedisClusterException)):
        text += "; is it running, and are redis.url and redis.cluster right?"
    return text


def redis_address(url: str) -> str:
    """The address in a URL of Redis, without its password."""
    parts = urlsplit(url)
    return parts.path if parts.scheme == "unix" else f"{parts.hostname}:{parts.port or 6379}"
