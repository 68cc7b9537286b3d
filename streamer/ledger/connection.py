"""The connection to Redis, and what its errors mean for who waits for an answer."""

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
    """The server answers that it cannot do the command now. The connection is given up, as
    another server may stand behind its address soon."""


class RedisRefusedError(StreamerError, exceptions.ResponseError):
    """The server refuses what waiting does not mend: a password, a permission, a command that it
    does not have. The message says what to do."""


REDIS_ERRORS = (exceptions.RedisError, exceptions.RedisClusterException)
"""Whatever Redis' client raises; the one is no kind of the other."""

UNREACHABLE = (
    exceptions.ConnectionError,
    exceptions.TimeoutError,
    exceptions.NoScriptError,  # loaded again, and yet not there: another server took over
    # Of a cluster, when its client has tried long enough.
    exceptions.ClusterError,
    exceptions.TryAgainError,
    exceptions.MovedError,
    exceptions.AskError,
    exceptions.SlotNotCoveredError,
)
"""Redis cannot be used right now. Whether the last command was carried out is not known."""

_TIMEOUT_S = 5.0

_NOT_NOW = (
    "BUSY|LOADING|MASTERDOWN|MISCONF|NOREPLICAS|OOM|READONLY|UNBLOCKED|max number of clients"
    "|Script killed by user"  # which is what ends a BUSY
)
# Before Redis 7 a script wraps the words of the command that failed in it.
_SAYS_NOT_NOW = re.compile(rf"(?:ERR )?(?:Error running script.*[ :-])?({_NOT_NOW})\b", re.DOTALL)
_CLUSTER_NOT_NOW = ("cannot be connected", "slots are not covered", "could not agree")
_HOPELESS = re.compile(
    r"NOPERM|NOPROTO|unknown command|unknown subcommand|wrong number of arguments"
    r"|DB index is out of range|invalid DB index|SELECT is not allowed",
    re.IGNORECASE,
)


def translate(error: exceptions.RedisError) -> exceptions.RedisError:
    """What an error answer means: `NotNowError`, `RedisRefusedError`, or the error as it is."""
    word = error.status_code if isinstance(error, exceptions.ResponseError) else None
    text = str(error)
    if word is not None and not text.startswith(word):
        text = f"{word} {text}"
    if isinstance(error, exceptions.AuthenticationError | exceptions.AuthorizationError):
        return RedisRefusedError(f"{text}: check the user and the password in redis.url")
    if isinstance(error, exceptions.NoPermissionError):
        return RedisRefusedError(f"{text}: the user must be allowed all keys, writes and scripts")
    if isinstance(error, exceptions.ClusterError | exceptions.AuthenticationWrongNumberOfArgsError):
        return error  # the client has its own way with these
    if _SAYS_NOT_NOW.match(text):
        return NotNowError(text)
    if _HOPELESS.search(text):
        return RedisRefusedError(f"{text}: check redis.url; Redis 6.2 or Valkey is needed")
    return error


class _Translating:
    """Mixed into redis-py's connections, through which every answer comes."""

    def read_response(self, *args: Any, **options: Any) -> Any:  # redis-py's own signature
        try:
            return super().read_response(*args, **options)  # type: ignore[misc]  # of the mixed-in
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
    """A cluster's client whose errors say whether they pass, also where it met them while it
    asked which node serves what."""

    def execute_command(self, *args: Any, **options: Any) -> Any:  # redis-py's own signature
        execute = super().execute_command
        return _reached(lambda: execute(*args, **options))  # type: ignore[no-untyped-call]  # theirs

    def pipeline(self, *args: Any, **options: Any) -> Any:  # redis-py's own signature
        made = super().pipeline(*args, **options)  # type: ignore[no-untyped-call]  # theirs
        execute = made.execute
        made.execute = lambda *args, **options: _reached(lambda: execute(*args, **options))
        return made


def _reached(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except exceptions.RedisClusterException as error:
        raise _of_nodes(error) from error


def _of_nodes(error: Exception) -> Exception:
    """What the nodes answered, or that none did."""
    if type(error) is not exceptions.RedisClusterException:
        return error
    met = error.__cause__ or error.__context__
    if isinstance(met, UNREACHABLE):
        return NotNowError(str(error))
    if isinstance(met, RedisRefusedError):
        return met
    if isinstance(met, exceptions.ResponseError):
        return RedisRefusedError(f"{met}: is redis.cluster right?")
    if isinstance(met, exceptions.RedisClusterException):
        return _of_nodes(met)
    passes = any(text in str(error) for text in _CLUSTER_NOT_NOW)
    return NotNowError(str(error)) if passes else error


def connect(settings: RedisSettings, max_connections: int = 64) -> Client:
    """A client that answers in bytes; it connects at its first command, to a cluster at once.

    A command that fails to reach Redis is not repeated here: who calls decides.

    Raises:
        NotNowError: no node of the cluster can be reached.
        RedisRefusedError: they refuse this client, or are no cluster.
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
    """Open so many connections ahead, so that the first batches do not wait for them.

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
    finally:  # also if one of them fails: what is not given back is lost to the pool
        for connection in opened:
            pool.release(connection)
