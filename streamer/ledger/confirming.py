"""Writes that must not be forgotten: confirmed by replicas, or by the disk, as the settings say.

A server that fails over forgets what no replica had received. Each act on which something relies
that cannot be undone, such as a pin before its first call, is therefore executed in one pipeline
with WAIT or WAITAOF. If too few confirm it in time, it has happened nevertheless, and may yet be
forgotten: the caller must not rely on it, and may repeat it, since each such act is idempotent.
"""

from collections.abc import Iterator, Sequence
from typing import Protocol, cast

from redis import Redis, exceptions

from streamer import metrics
from streamer.errors import StreamerError
from streamer.ledger import keys
from streamer.ledger.connection import UNREACHABLE, Client, ClusterClient, Durability

Argument = str | bytes | int

_REPLICAS_MS = 1_000
# With `appendfsync everysec` the disk syncs once a second. Both limits together are shorter than
# the client's timeout for a reply.
_FSYNC_MS = 2_500


class UnconfirmedError(StreamerError, exceptions.ConnectionError):
    """Too few replicas, or not the disk, confirmed a write in time: it may yet be forgotten."""


class ConfirmedScript:
    """A script whose effects are confirmed when it returns, even those of an earlier run.

    Args:
        source: the script's text.
    """

    def __init__(self, client: Client, source: str) -> None:
        self._client = client
        self._source = source
        self._script = client.register_script(source)

    def __call__(self, keys: list[str], args: list[Argument]) -> object:
        """Run the script and return its reply.

        Raises:
            UnconfirmedError: it ran, but is not confirmed.
            redis.exceptions.RedisError: Redis cannot be used; the script may have run.
        """
        command: list[Argument] = [len(keys), *keys, *args]
        try:
            return confirmed(self._client, keys[0], "EVALSHA", self._script.sha, *command)
        except exceptions.NoScriptError:  # another server took over
            return confirmed(self._client, keys[0], "EVAL", self._source, *command)

    def each(self, calls: Sequence[tuple[str, list[Argument]]]) -> list[object]:
        """Run the script for several keys, each with its arguments, and return the replies.

        Raises: see `__call__`; any of them may have run.
        """
        if isinstance(self._client, ClusterClient) or self._client.durability == Durability():
            return [self([key], args) for key, args in calls]
        # On one connection: if another server took over in between, its confirmation would say
        # nothing of what the one before executed.
        commands = [("EVAL", self._source, 1, key, *args) for key, args in calls]
        return _confirmed(self._client, calls[0][0], commands) if calls else []


def confirmed(client: Client, key: str, *command: Argument) -> object:
    """Execute a command and wait until it is confirmed, with all earlier writes of its server.

    Args:
        key: one of the command's keys.

    Raises:
        UnconfirmedError: it was executed, but is not confirmed.
        redis.exceptions.RedisError: Redis cannot be used; the command may have been executed.
    """
    if client.durability == Durability():
        return client.execute_command(*command)  # type: ignore[no-untyped-call]  # redis-py
    return _confirmed(client, key, [command])[0]


class CommandPipeline(Protocol):
    """What this module uses of a pipeline; redis-py's own classes are not typed."""

    def execute_command(self, *command: Argument) -> object: ...

    def execute(self) -> list[object]: ...


def confirmed_pipeline(
    client: Client, pipeline: CommandPipeline, key: str, count: int
) -> list[object]:
    """Execute a pipeline, and wait until it is confirmed, except by the nodes of a cluster.

    Args:
        key: one of its keys.
        count: the number of its commands.

    Raises:
        UnconfirmedError: it was executed, but is not confirmed.
        redis.exceptions.RedisError: Redis cannot be used; some of it may have been executed.
    """
    if not isinstance(client, ClusterClient) and client.durability != Durability():
        for each in _confirmation(key, *client.durability):
            pipeline.execute_command(*each)
    replies = pipeline.execute()
    if len(replies) > count:
        _check(client, *client.durability, replies[count + 1 :])
    return replies[:count]


def _confirmed(client: Client, key: str, commands: Sequence[tuple[Argument, ...]]) -> list[object]:
    """Execute commands on the key's server, and wait until they are confirmed."""
    replicas, fsync = client.durability
    try:
        # Not a pipeline of the cluster client: it follows a redirection of the command alone, and
        # would have the wrong node confirm it.
        pipeline = _server_of(client, key).pipeline(transaction=False)
        for each in (*commands, *_confirmation(key, replicas, fsync)):
            pipeline.execute_command(*each)  # type: ignore[no-untyped-call]  # redis-py
        replies = pipeline.execute(raise_on_error=False)
    except UNREACHABLE:
        _look_again(client, key)
        raise
    for reply in replies:
        if isinstance(reply, UNREACHABLE):
            _look_again(client, key)
        if isinstance(reply, Exception):
            raise reply
    _check(client, replicas, fsync, replies[len(commands) + 1 :])
    return replies[: len(commands)]


def _confirmation(key: str, replicas: int, fsync: bool) -> Iterator[tuple[Argument, ...]]:
    # WAIT covers only what this connection wrote, and the command may write nothing: it reads, or
    # repeats an act that another connection carried out. Without a write, a server that is cut off
    # would also count the replicas that it had.
    yield "SET", keys.confirmation(key), ""
    if replicas:
        yield "WAIT", replicas, _REPLICAS_MS
    if fsync:
        yield "WAITAOF", 1, 0, _FSYNC_MS


def _check(client: Client, replicas: int, fsync: bool, replies: list[object]) -> None:
    if replicas and (found := cast(int, replies[0])) < replicas:
        metrics.UNCONFIRMED.labels("replicas").inc()
        if not isinstance(client, ClusterClient):
            client.find_primary_again()  # this one may be cut off, and replaced
        raise UnconfirmedError(
            f"only {found} of {replicas} replicas (redis.replicas) have a write after "
            f"{_REPLICAS_MS / 1000:g} s"
        )
    if fsync and cast(list[int], replies[-1])[0] < 1:
        metrics.UNCONFIRMED.labels("disk").inc()
        raise UnconfirmedError(
            f"the disk does not have a write (redis.fsync) after {_FSYNC_MS / 1000:g} s"
        )


def _server_of(client: Client, key: str) -> Redis:
    if not isinstance(client, ClusterClient):
        return client
    node = client.get_node_from_key(key)  # type: ignore[no-untyped-call]  # redis-py
    return client.get_redis_connection(node)


def _look_again(client: Client, key: str) -> None:
    """Have a cluster client find out which node has the key now."""
    if isinstance(client, ClusterClient):
        client.look_up(key)
