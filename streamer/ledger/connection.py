"""The connection to Redis."""

from redis import Redis, RedisCluster, exceptions
from redis.backoff import ExponentialWithJitterBackoff
from redis.retry import Retry

from streamer.settings import Redis as RedisSettings

Client = Redis | RedisCluster

UNREACHABLE = (
    exceptions.ConnectionError,
    exceptions.TimeoutError,
    exceptions.BusyLoadingError,
    exceptions.ReadOnlyError,
    exceptions.OutOfMemoryError,  # it refuses writes: `noeviction`
)
"""Redis cannot be used right now. Whether the last command was carried out is not known."""

_TIMEOUT_S = 5.0


def connect(settings: RedisSettings, max_connections: int = 64) -> Client:
    """A client that answers in bytes; it connects at its first command.

    A command that fails to reach Redis is not repeated here: who calls decides.
    """
    retry = Retry(ExponentialWithJitterBackoff(), 0)
    if settings.cluster:
        return RedisCluster.from_url(
            settings.url, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S, retry=retry
        )
    return Redis.from_url(
        settings.url,
        max_connections=max_connections,
        socket_timeout=_TIMEOUT_S,
        socket_connect_timeout=_TIMEOUT_S,
        retry=retry,
    )


def warm(client: Client, connections: int) -> None:
    """Open so many connections ahead, so that the first batches do not wait for them.

    Raises:
        redis.exceptions.RedisError: Redis cannot be used.
    """
    if isinstance(client, RedisCluster):
        client.ping()
        return
    pool = client.connection_pool
    opened = [pool.get_connection() for _ in range(connections)]
    for connection in opened:
        pool.release(connection)
