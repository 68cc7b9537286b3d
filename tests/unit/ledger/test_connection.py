"""What Redis answers, and whether to wait for another answer."""

import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from threading import Thread

import pytest
from redis import Redis, exceptions

from streamer.ledger.connection import UNREACHABLE, RedisRefusedError, connect, warm
from streamer.settings import RedisSettings as RedisSettings

Answering = Callable[[str], str]


@pytest.fixture
def answering() -> Iterator[Answering]:
    """A server that answers GET with an error, and all else with OK; gives its URL."""
    listeners = []

    def serve(connection: socket.socket, answer: bytes) -> None:
        with connection:
            while chunk := connection.recv(65536):  # commands arrive whole here: they are short
                for command in chunk.split(b"\r\n*"):
                    connection.sendall(answer if b"\nGET\r" in command else b"+OK\r\n")

    def accept(listener: socket.socket, answer: bytes) -> None:
        with suppress(OSError):  # the test is over
            while True:
                connection, _ = listener.accept()
                Thread(target=serve, args=(connection, answer), daemon=True).start()

    def start(error: str) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)
        answer = f"-{error}\r\n".encode()
        Thread(target=accept, args=(listener, answer), daemon=True).start()
        return f"redis://127.0.0.1:{listener.getsockname()[1]}/0?protocol=2"

    yield start
    for listener in listeners:
        listener.close()


@pytest.mark.parametrize(
    "error",
    [
        "BUSY Redis is busy running a script.",
        "CLUSTERDOWN The cluster is down",
        "ERR Error running script (call to f_1): @user_script:3: OOM command not allowed",
        "ERR max number of clients reached",
        "ERR max number of clients + cluster connections reached",
        "LOADING Redis is loading the dataset in memory",
        "MASTERDOWN Link with MASTER is down",
        "MISCONF Redis is configured to save RDB snapshots",
        "NOREPLICAS Not enough good replicas to write.",
        "NOSCRIPT No matching script. Please use EVAL.",
        "OOM command not allowed when used memory > 'maxmemory'.",
        "READONLY You can't write against a read only replica.",
        "TRYAGAIN Multiple keys request during rehashing of slot",
        "UNBLOCKED force unblock from blocking operation",
        "ERR Script attempted to access a non local key in a cluster node script: f_1",
        "ERR Unable to execute command 'hget' in script because undeclared keys were accessed "
        "during rehashing of the slot script: f_1",
        "ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.",
    ],
)
def test_transient_errors_are_retried(answering: Answering, error: str) -> None:
    client = connect(RedisSettings(url=answering(error)))
    with pytest.raises(UNREACHABLE):
        client.get("key")
    pipeline = client.pipeline(transaction=False)
    pipeline.get("key")
    pipeline.get("key")
    with pytest.raises(UNREACHABLE):
        pipeline.execute()
    # The connection is as good as new.
    assert client.set("key", "value")
    client.close()


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        ("WRONGPASS invalid username-password pair or user is disabled.", "redis.url"),
        ("NOAUTH Authentication required.", "redis.url"),
        ("NOPERM this user has no permissions to run the 'get' command", "needs access"),
        ("ERR unknown command 'GET'", "Redis 6.2"),
        ("ERR wrong number of arguments for 'get' command", "Redis 6.2"),
        ("ERR DB index is out of range", "redis.url"),
    ],
)
def test_permanent_errors_suggest_a_fix(answering: Answering, error: str, advice: str) -> None:
    client = connect(RedisSettings(url=answering(error)))
    with pytest.raises(RedisRefusedError, match=advice) as refused:
        client.get("key")
    assert not isinstance(refused.value, UNREACHABLE)
    client.close()


def test_other_errors_are_unchanged(answering: Answering) -> None:
    client = connect(RedisSettings(url=answering("WRONGTYPE Operation against a key")))
    with pytest.raises(exceptions.ResponseError) as mistake:
        client.get("key")
    assert not isinstance(mistake.value, (RedisRefusedError, *UNREACHABLE))
    client.close()


def test_an_unreachable_cluster_is_transient() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"redis://127.0.0.1:{taken.getsockname()[1]}/0"
    with pytest.raises(UNREACHABLE):
        connect(RedisSettings(url=url, cluster=True))


def test_connections_are_returned_after_a_failure(
    answering: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = connect(RedisSettings(url=answering("ERR none")), 3)
    assert isinstance(client, Redis)
    pool = client.connection_pool
    opened: list[object] = []

    def open_two() -> object:
        if len(opened) == 2:
            raise exceptions.ConnectionError("refused")
        opened.append(type(pool).get_connection(pool))
        return opened[-1]

    with monkeypatch.context() as patch:
        patch.setattr(pool, "get_connection", open_two)
        with pytest.raises(UNREACHABLE):
            warm(client, 3)
    assert len(opened) == 2
    warm(client, 3)
    client.close()
