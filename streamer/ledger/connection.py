"""Connecting to Redis, and classifying its errors for the callers."""

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from redis import (
    Connection,
    Redis,
    RedisCluster,
    SSLConnection,
    UnixDomainSocketConnection,
    exceptions,
)
from redis.backoff import ExponentialWithJitterBackoff
from redis.retry import Retry

from streamer.errors import StreamerError
from streamer.settings import RedisSettings as RedisSettings

Client = Redis | RedisCluster


class NotNowError(StreamerError, exceptions.ConnectionError):
    """The server cannot execute the command at the moment. The connection is closed, because the
    address may point to another server soon."""


class RedisRefusedError(StreamerError, exceptions.ResponseError):
    """The server refuses the command for a reason that retrying cannot fix: a wrong password, a
    missing permission, an unsupported command. The message says what to do."""


REDIS_ERRORS = (exceptions.RedisError, exceptions.RedisClusterException)
"""All errors raised by the Redis client; RedisClusterException does not derive from RedisError."""

UNREACHABLE = (
    exceptions.ConnectionError,
    exceptions.TimeoutError,
    exceptions.NoScriptError,  # reloaded and still missing: another server took over
    # Raised by a cluster client that has used up its retries.
    exceptions.ClusterError,
    exceptions.TryAgainError,
    exceptions.MovedError,
    exceptions.AskError,
    exceptions.SlotNotCoveredError,
)
"""Redis cannot be used right now; the last command may or may not have been executed."""

_TIMEOUT_S = 5.0

_NOT_NOW = (
    "BUSY|LOADING|MASTERDOWN|MISCONF|NOREPLICAS|OOM|READONLY|UNBLOCKED|max number of clients"
    "|Script killed by user"  # this ends BUSY
)
# Before Redis 7, a script error wraps the message of the command that failed in the script.
_SAYS_NOT_NOW = re.compile(rf"(?:ERR )?(?:Error running script.*[ :-])?({_NOT_NOW})\b", re.DOTALL)
_CLUSTER_NOT_NOW = ("cannot be connected", "slots are not covered", "could not agree")
_HOPELESS = re.compile(
    r"NOPERM|NOPROTO|unknown command|unknown subcommand|wrong number of arguments"
    r"|DB index is out of range|invalid DB index|SELECT is not allowed",
    re.IGNORECASE,
)


def translate(error: exceptions.RedisError) -> exceptions.RedisError:
    """Convert an error reply to `NotNowError` or `RedisRefusedError`, or return it unchanged."""
    word = error.status_code if isinstance(error, exceptions.ResponseError) else None
    text = str(error)
    if word is not None and not text.startswith(word):
        text = f"{word} {text}"
    if isinstance(error, exceptions.AuthenticationError | exceptions.AuthorizationError):
        return RedisRefusedError(f"{text}: check user and password in redis.url")
    if isinstance(error, exceptions.NoPermissionError):
        return RedisRefusedError(f"{text}: the user needs access to all keys, writes and scripts")
    if isinstance(error, exceptions.ClusterError | exceptions.AuthenticationWrongNumberOfArgsError):
        return error  # the client handles these itself
    if _SAYS_NOT_NOW.match(text):
        return NotNowError(text)
    if _HOPELESS.search(text):
        return RedisRefusedError(f"{text}: check redis.url; Redis 6.2 or Valkey is required")
    return error


class _Translating:
    """Mixin for redis-py's connections that translates the errors of every reply."""

    def read_response(self, *args: Any, **options: Any) -> Any:  # redis-py's own signature
        try:
            return super().read_response(*args, **options)  # type: ignore[misc]  # mixin
        except (
            exceptions.ResponseError,
            exceptions.AuthenticationError,
            exceptions.AuthorizationError,
        ) as error:
            raise translate(error) from None


class _TranslatingConnection(_Translating, Connection):
    pass


class _TranslatingSecureConnection(_Translating, SSLConnection):
    pass


class _TranslatingSocketConnection(_Translating, UnixDomainSocketConnection):
    pass


class _Cluster(RedisCluster):
    """A cluster client that also translates errors met while it discovers which node serves which
    slot."""

    def execute_command(self, *args: Any, **options: Any) -> Any:  # redis-py's own signature
        execute = super().execute_command
        return _reached(lambda: execute(*args, **options))  # type: ignore[no-untyped-call]  # redis-py

    def pipeline(self, *args: Any, **options: Any) -> Any:  # redis-py's own signature
        made = super().pipeline(*args, **options)  # type: ignore[no-untyped-call]  # redis-py
        execute = made.execute
        made.execute = lambda *args, **options: _reached(lambda: execute(*args, **options))
        return made


def _reached(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except exceptions.RedisClusterException as error:
        raise _of_nodes(error) from error


def _of_nodes(error: Exception) -> Exception:
    """Return the underlying error of the nodes, or `NotNowError` if none could be reached."""
    if type(error) is not exceptions.RedisClusterException:
        return error
    met = error.__cause__ or error.__context__
    if isinstance(met, UNREACHABLE):
        return NotNowError(str(error))
    if isinstance(met, RedisRefusedError):
        return met
    if isinstance(met, exceptions.ResponseError):
        return RedisRefusedError(f"{met}: check redis.cluster")
    if isinstance(met, exceptions.RedisClusterException):
        return _of_nodes(met)
    passes = any(text in str(error) for text in _CLUSTER_NOT_NOW)
    return NotNowError(str(error)) if passes else error


def connect(settings: RedisSettings, max_connections: int = 64) -> Client:
    """Create a client that returns bytes.

    It connects on the first command, but to a cluster immediately. A command that fails to reach
    Redis is not retried here; the caller decides.

    Raises:
        NotNowError: no node of the cluster can be reached.
        RedisRefusedError: the nodes refuse this client, or are not a cluster.
    """
    retry = Retry(ExponentialWithJitterBackoff(), 0)
    scheme = urlsplit(settings.url).scheme
    kinds = {"rediss": _TranslatingSecureConnection, "unix": _TranslatingSocketConnection}
    if settings.cluster:
        cluster: RedisCluster = _reached(
            lambda: _Cluster.from_url(
                settings.url,
                socket_timeout=_TIMEOUT_S,
                socket_connect_timeout=_TIMEOUT_S,
                retry=retry,
                connection_class=kinds.get(scheme, _TranslatingConnection),
            )
        )
        return cluster
    return Redis.from_url(
        settings.url,
        max_connections=max_connections,
        socket_timeout=_TIMEOUT_S,
        socket_connect_timeout=_TIMEOUT_S,
        retry=retry,
        connection_class=kinds.get(scheme, _TranslatingConnection),
    )


def warm(client: Client, connections: int) -> None:
    """Open connections in advance, so that the first batches do not wait for them.

    Raises:
        redis.exceptions.RedisError: Redis cannot be used.
    """
    if isinstance(client, RedisCluster):
        client.ping()
        return
    pool = client.connection_pool
    opened = []
    try:
        for _ in range(connections):
            opened.append(pool.get_connection())
    finally:  # also on failure: the pool never regains a connection that is not released
        for connection in opened:
            pool.release(connection)
