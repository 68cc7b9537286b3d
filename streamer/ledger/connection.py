"""Connecting to Redis, and classifying its errors for the callers."""

import random
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from redis import (
    Connection,
    ConnectionPool,
    Redis,
    RedisCluster,
    SSLConnection,
    UnixDomainSocketConnection,
    exceptions,
)
from redis.backoff import ExponentialWithJitterBackoff
from redis.connection import parse_url
from redis.retry import Retry
from redis.sentinel import (
    Sentinel,
    SentinelConnectionPool,
    SentinelManagedConnection,
    SentinelManagedSSLConnection,
)

from streamer.errors import StreamerError
from streamer.settings import RedisSettings as RedisSettings


class Durability(NamedTuple):
    """What must have a write before anything relies on it, besides the server that executed it.

    Attributes:
        replicas: how many replicas.
        fsync: whether the server's disk.
    """

    replicas: int = 0
    fsync: bool = False


class SingleClient(Redis):
    """A client of one primary, at an address or found through Sentinel.

    Attributes:
        durability: what writes that must not be forgotten wait for.
    """

    durability = Durability()

    def primaries(self) -> list[Redis]:
        """This client, as `ClusterClient.primaries`."""
        return [self]

    def find_primary_again(self) -> None:
        """Drop the idle connections, so that the primary's address is asked for again."""
        if isinstance(self.connection_pool, SentinelConnectionPool):
            # A Sentinel that is cut off, as the server may be, would name the same server again.
            random.shuffle(self.connection_pool.sentinel_manager.sentinels)
        self.connection_pool.disconnect(inuse_connections=False)


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
_CONNECT_TIMEOUT_S = 2.0  # shorter: an attempt to reach a dead primary delays finding the next one
_SENTINEL_TIMEOUT_S = 1.0

_NOT_NOW = (
    "BUSY|LOADING|MASTERDOWN|MISCONF|NOREPLICAS|OOM|READONLY|UNBLOCKED|max number of clients"
    "|Script killed by user"  # this ends BUSY
    # A cluster's slot is moving: the claims that a script looks up are not declared as its keys.
    "|Script attempted to access a non local key|Unable to execute command .* during rehashing"
    "|Script attempted to access a slot not served|Script attempted to execute a (?:write )?command"
    " while the cluster is down"
    # Checked at the start; here another server, without an append-only file, took over.
    "|WAITAOF cannot be used when numlocal is set"
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
            translated = translate(error)
            if isinstance(translated, NotNowError):
                # A pipeline of the cluster client takes a ConnectionError for a lost connection,
                # and would leave the replies to its other commands to the next user of this one.
                self.disconnect()  # type: ignore[attr-defined]  # mixin
            raise translated from None


class _TranslatingConnection(_Translating, Connection):
    pass


class _TranslatingSecureConnection(_Translating, SSLConnection):
    pass


class _TranslatingSocketConnection(_Translating, UnixDomainSocketConnection):
    pass


class _SentinelConnection(_Translating, SentinelManagedConnection):
    pass


class _SecureSentinelConnection(_Translating, SentinelManagedSSLConnection):
    pass


class ClusterClient(RedisCluster):
    """A cluster client that also translates errors met while it discovers which node serves which
    slot.

    Attributes:
        durability: what writes that must not be forgotten wait for.
    """

    durability = Durability()

    # Do not follow redirections, only learn from them: redis-py does so in a loop, and if that
    # fails after the first node it releases that node's connection a second time. Another thread
    # may have it by then, and a third one would read its replies.
    RedisClusterRequestTTL = 1

    def execute_command(self, *args: Any, **options: Any) -> Any:  # redis-py's own signature
        execute = super().execute_command
        return _reached(lambda: execute(*args, **options))  # type: ignore[no-untyped-call]  # redis-py

    def primaries(self) -> list[Redis]:
        """A client of each primary."""
        nodes = self.get_primaries()  # type: ignore[no-untyped-call]  # redis-py
        return [self.get_redis_connection(node) for node in nodes]

    def look_up(self, key: str) -> None:
        """Find out which node has a key, in the client's own way, which follows redirections."""
        with suppress(*UNREACHABLE):
            self.exists(key)

    def pipeline(self, *args: Any, **options: Any) -> Any:  # redis-py's own signature
        made = super().pipeline(*args, **options)  # type: ignore[no-untyped-call]  # redis-py
        made.RedisClusterRequestTTL = self.RedisClusterRequestTTL
        execute = made.execute
        made.execute = lambda *args, **options: _reached(lambda: execute(*args, **options))
        return made


def _reached(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except exceptions.RedisClusterException as error:
        raise _of_nodes(error) from error
    except exceptions.ClusterError as error:
        if str(error) == "TTL exhausted.":
            raise NotNowError("a slot of the cluster has moved, or is moving") from error
        raise


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


Client = SingleClient | ClusterClient


def connect(settings: RedisSettings, max_connections: int = 64) -> Client:
    """Create a client that returns bytes.

    It connects on the first command, but to a cluster immediately. A command that fails to reach
    Redis is not retried here; the caller decides. Each new connection resolves the address anew,
    or asks a Sentinel, and is refused by a server that is not a primary.

    Raises:
        NotNowError: no node of the cluster can be reached.
        RedisRefusedError: the nodes refuse this client, or are not a cluster.
    """
    client = _connect(settings, max_connections)
    client.durability = Durability(settings.replicas, settings.fsync)
    return client


def _connect(settings: RedisSettings, max_connections: int) -> Client:
    options: dict[str, Any] = {  # redis-py's own
        "socket_timeout": _TIMEOUT_S,
        "socket_connect_timeout": _CONNECT_TIMEOUT_S,
        "retry": Retry(ExponentialWithJitterBackoff(), 0),
    }
    scheme = urlsplit(settings.url).scheme
    kinds = {"rediss": _TranslatingSecureConnection, "unix": _TranslatingSocketConnection}
    kind = kinds.get(scheme, _TranslatingConnection)
    if settings.cluster:
        cluster: ClusterClient = _reached(
            lambda: ClusterClient.from_url(settings.url, connection_class=kind, **options)
        )
        return cluster
    options |= {"max_connections": max_connections, "redis_connect_func": _reach_primary}
    if settings.sentinels:
        pool = _sentinel_pool(settings, options)
    else:
        pool = ConnectionPool.from_url(settings.url, connection_class=kind, **options)
    client = SingleClient(connection_pool=pool)
    client.auto_close_connection_pool = True
    return client


def _sentinel_pool(settings: RedisSettings, options: dict[str, Any]) -> ConnectionPool:
    of_url = parse_url(settings.url)  # type: ignore[no-untyped-call]  # redis-py
    is_secure = of_url.pop("connection_class", None) is SSLConnection
    for name in ("host", "port"):
        of_url.pop(name, None)
    tls = {name: value for name, value in of_url.items() if name.startswith("ssl_")}
    password = settings.sentinel_password
    manager = Sentinel(  # type: ignore[no-untyped-call]  # redis-py
        [(host, port) for host, port in settings.sentinel_addresses],
        sentinel_kwargs={
            "username": settings.sentinel_user,
            "password": None if password is None else password.get_secret_value(),
            "socket_timeout": _SENTINEL_TIMEOUT_S,
            "socket_connect_timeout": _SENTINEL_TIMEOUT_S,
            "retry": options["retry"],
            **({"ssl": True, **tls} if is_secure else {}),
        },
    )
    return SentinelConnectionPool(  # type: ignore[no-untyped-call]  # redis-py
        settings.service,
        manager,
        connection_class=_SecureSentinelConnection if is_secure else _SentinelConnection,
        **{**of_url, **options},
    )


def _reach_primary(connection: Connection) -> None:
    """Set up a new connection.

    Raises:
        NotNowError: the server is a replica. It was the primary, or it will be; meanwhile it would
            answer reads with old data.
    """
    connection.on_connect()  # type: ignore[no-untyped-call]  # redis-py
    with suppress(exceptions.ResponseError):  # not allowed on some hosted servers
        connection.send_command("ROLE")  # type: ignore[no-untyped-call]  # redis-py
        reply = connection.read_response()
        if isinstance(reply, list) and reply[0] != b"master":
            raise NotNowError("the server is not a primary")


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
