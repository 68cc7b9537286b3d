"""Kafka and Redis on this machine: what survives a kill, and that nothing is left behind."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from streamer.stack import DetachedStack, KafkaServer, RedisServer, Stack, StackError
from streamer.stack.ports import free_port

TOPIC = "kept"
CLI = (sys.executable, "-m", "streamer", "stack")

pytestmark = pytest.mark.slow


def wait_until(condition: Callable[[], object], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"after {seconds} s still not: {what}"
        time.sleep(0.02)


def produce(servers: str, *values: str) -> None:
    producer = Producer({"bootstrap.servers": servers, "acks": "all"})
    for value in values:
        producer.produce(TOPIC, value.encode())
    assert producer.flush(30) == 0


def consume(servers: str, count: int) -> list[str]:
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "reader"})
    consumer.assign([TopicPartition(TOPIC, 0, 0)])
    found: list[str] = []
    deadline = time.monotonic() + 30
    while len(found) < count and time.monotonic() < deadline:
        message = consumer.poll(0.2)
        if message is not None and message.error() is None:
            found.append((message.value() or b"").decode())
    consumer.close()
    return found


def create_topic(servers: str) -> None:
    admin = AdminClient({"bootstrap.servers": servers})
    admin.create_topics([NewTopic(TOPIC, 1, 1)])[TOPIC].result(30)


def client_of(url: str) -> redis.Redis:
    return redis.Redis.from_url(url, decode_responses=True)


def running_below(folder: Path) -> list[int]:
    """Processes that run in a folder of that one."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if Path(process.cwd()).is_relative_to(folder):
                found.append(process.pid)
    return found


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*CLI, *arguments], capture_output=True, text=True, check=False, timeout=90
    )


def test_kafka_keeps_its_data(make_kafka: Callable[[], KafkaServer]) -> None:
    kafka = make_kafka()
    servers, first = kafka.bootstrap_servers, kafka.pid
    create_topic(servers)
    produce(servers, "before the kill")
    kafka.kill()
    assert first is not None
    assert not psutil.pid_exists(first)
    kafka.start()
    assert kafka.bootstrap_servers == servers
    assert kafka.pid not in (None, first)
    produce(servers, "after it")
    kafka.restart()
    assert consume(servers, 2) == ["before the kill", "after it"]


def test_redis_keeps_its_data(make_redis: Callable[[], RedisServer]) -> None:
    server = make_redis()
    url = server.url
    client = client_of(url)
    for number in range(100):
        client.set(f"key-{number}", number)
    server.kill()
    server.start()
    assert server.url == url
    assert client.dbsize() == 100
    server.restart()
    assert client.get("key-99") == "99"
    assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    assert client.config_get("appendonly") == {"appendonly": "yes"}


def test_killed_servers_are_started_again(make_redis: Callable[[], RedisServer]) -> None:
    server = make_redis()
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    wait_until(lambda: server.pid is None, 5, "the end is noticed")
    server.start()
    assert client_of(server.url).ping()


def test_starting_twice_starts_one_stack(make_redis: Callable[[], RedisServer]) -> None:
    server = make_redis()
    pid = server.pid
    server.start()
    assert server.pid == pid


def test_shared_stack_serves_both(stack: Stack) -> None:
    assert AdminClient({"bootstrap.servers": stack.bootstrap_servers}).list_topics(timeout=10)
    assert client_of(stack.redis_url).ping()


def test_a_failed_start_shows_the_log(tmp_path: Path) -> None:
    damaged = tmp_path / "appendonlydir" / "appendonly.aof.manifest"
    damaged.parent.mkdir()
    damaged.write_text("nonsense\n")
    with pytest.raises(StackError, match=r"(?s)redis died.*manifest"):
        RedisServer(tmp_path).start()
    assert not running_below(tmp_path)


def test_a_foreign_server_on_the_port_is_reported(
    make_redis: Callable[[], RedisServer], tmp_path: Path
) -> None:
    other = make_redis()
    with pytest.raises(StackError, match=f"port {other.port} on 127.0.0.1 is in use"):
        RedisServer(tmp_path / "mine", other.port).start()
    assert not RedisServer(tmp_path / "mine", other.port).serves()


class Ephemeral:
    """`streamer stack up --ephemeral`, its temporary folders all in one of ours."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        nowhere = "http://127.0.0.1:1"  # what was fetched once is not fetched again
        self.process = subprocess.Popen(
            [*CLI, "up", "--ephemeral", "--json"],
            env=os.environ
            | {"TMPDIR": str(folder), "HTTPS_PROXY": nowhere, "https_proxy": nowhere},
            stdout=subprocess.PIPE,
            text=True,
        )

    def wait_until_it_serves(self) -> dict[str, dict[str, Any]]:
        assert self.process.stdout is not None
        answer: dict[str, dict[str, Any]] = json.loads(self.process.stdout.readline())
        return answer

    def wait_until_nothing_is_left(self) -> None:
        wait_until(
            lambda: not running_below(self.folder) and not list(self.folder.iterdir()),
            20,
            f"nothing is left in {self.folder}",
        )


@pytest.fixture
def make_ephemeral(tmp_path: Path) -> Iterator[Callable[[], Ephemeral]]:
    made: list[Ephemeral] = []

    def make() -> Ephemeral:
        made.append(Ephemeral(tmp_path / f"temporary-{len(made)}"))
        return made[-1]

    yield make
    for ephemeral in made:
        ephemeral.process.kill()
        ephemeral.process.wait()
        if ephemeral.process.stdout is not None:
            ephemeral.process.stdout.close()


def test_ephemeral_leaves_nothing(
    kafka_is_fetched: None, make_ephemeral: Callable[[], Ephemeral]
) -> None:
    stacks = {
        number: make_ephemeral() for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
    }
    addresses = set()
    for ephemeral in stacks.values():  # they start at the same time
        for server in ephemeral.wait_until_it_serves().values():
            addresses.add(server["address"])
            assert psutil.pid_exists(server["pid"])
    assert len(addresses) == 6
    for number, ephemeral in stacks.items():
        ephemeral.process.send_signal(number)
    for number, ephemeral in stacks.items():
        code = ephemeral.process.wait(30)
        assert code == (-signal.SIGKILL if number == signal.SIGKILL else 0)
        ephemeral.wait_until_nothing_is_left()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("file", ["kafka/format.properties", "logs/kafka.log"])
def test_ephemeral_stopped_during_start_leaves_nothing(
    kafka_is_fetched: None,
    make_ephemeral: Callable[[], Ephemeral],
    file: str,
    number: signal.Signals,
) -> None:
    ephemeral = make_ephemeral()
    wait_until(lambda: list(ephemeral.folder.glob(f"*/{file}")), 30, f"{file} is written")
    ephemeral.process.send_signal(number)
    ephemeral.process.wait(30)
    ephemeral.wait_until_nothing_is_left()


def test_ephemeral_reports_a_dead_server(
    kafka_is_fetched: None, make_ephemeral: Callable[[], Ephemeral]
) -> None:
    ephemeral = make_ephemeral()
    os.kill(ephemeral.wait_until_it_serves()["redis"]["pid"], signal.SIGKILL)
    assert ephemeral.process.wait(30) == 1
    ephemeral.wait_until_nothing_is_left()


def test_servers_die_with_a_killed_owner(tmp_path: Path) -> None:
    owner = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys, pathlib; from streamer.stack import RedisServer\n"
            "RedisServer(pathlib.Path(sys.argv[1])).start(); print('up', flush=True)\n"
            "sys.stdin.read()",
            str(tmp_path / "redis"),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"up\n"
        assert running_below(tmp_path)
        owner.kill()
    wait_until(lambda: not running_below(tmp_path), 10, "the server has ended")
    assert (tmp_path / "redis" / "redis.conf").exists()  # only the ephemeral are removed


class Detached:
    """`streamer stack` on a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.kafka_port, self.redis_port = free_port(), free_port()

    def up(self) -> subprocess.CompletedProcess[str]:
        return command(
            *("up", "--folder", str(self.folder)),
            *("--kafka-port", str(self.kafka_port), "--redis-port", str(self.redis_port)),
        )

    def down(self) -> subprocess.CompletedProcess[str]:
        return command("down", "--folder", str(self.folder))

    def status(self) -> tuple[int, dict[str, Any]]:
        shown = command("status", "--folder", str(self.folder), "--json")
        return shown.returncode, json.loads(shown.stdout)


@pytest.fixture
def detached(tmp_path: Path) -> Iterator[Detached]:
    # A blank and a comma: what the servers' own settings would stumble over.
    stack = Detached(tmp_path / "a stack, mine")
    yield stack
    DetachedStack(stack.folder).down()


@pytest.fixture(scope="session")
def kafka_is_fetched(stack: Stack) -> None:
    """The shared stack has started, so its jars are here."""


def test_commands(detached: Detached) -> None:
    up = detached.up()
    assert (up.returncode, up.stderr) == (0, "")
    code, first = detached.status()
    assert code == 0
    servers = f"127.0.0.1:{detached.kafka_port}"
    assert first["kafka"]["address"] == servers
    assert first["kafka"]["version"] == "Apache Kafka 4.3.1"
    assert first["redis"]["address"] == f"redis://127.0.0.1:{detached.redis_port}/0"
    assert 0 <= first["redis"]["uptime_seconds"] < 60
    assert Path(first["kafka"]["log"]) == detached.folder / "logs" / "kafka.log"
    assert Path(first["kafka"]["log"]).exists()
    create_topic(servers)
    produce(servers, "kept")
    client_of(first["redis"]["address"]).set("kept", "too")

    again = detached.up()
    assert again.returncode == 0
    assert "Already running." in again.stdout
    elsewhere = command("up", "--folder", str(detached.folder), "--kafka-port", "29999")
    assert elsewhere.returncode == 1
    assert f"already running on port {detached.kafka_port}" in elsewhere.stderr
    assert detached.status()[1]["kafka"]["pid"] == first["kafka"]["pid"]

    # One is killed: its record is stale, and only it is started again.
    kafka = psutil.Process(first["kafka"]["pid"])
    kafka.kill()
    kafka.wait(10)
    code, shown = detached.status()
    assert (code, shown["kafka"]["state"], shown["redis"]["state"]) == (1, "stopped", "running")
    assert detached.up().returncode == 0
    code, shown = detached.status()
    assert code == 0
    assert shown["kafka"]["pid"] != first["kafka"]["pid"]
    assert shown["redis"]["pid"] == first["redis"]["pid"]

    assert detached.down().stdout == "Stopped: redis, kafka.\n"
    assert not running_below(detached.folder)
    code, shown = detached.status()
    assert (code, shown["kafka"]["state"], shown["redis"]["state"]) == (1, "stopped", "stopped")
    assert detached.down().stdout == "Not running.\n"

    assert detached.up().returncode == 0
    assert consume(servers, 1) == ["kept"]
    assert client_of(first["redis"]["address"]).get("kept") == "too"


@pytest.mark.parametrize("name", ["kafka", "redis"])
def test_port_in_use(detached: Detached, name: str, kafka_is_fetched: None) -> None:
    port = detached.kafka_port if name == "kafka" else detached.redis_port
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        up = detached.up()
    assert up.returncode == 1
    assert f"port {port} on 127.0.0.1 is in use" in up.stderr
    assert f"--{name}-port" in up.stderr
    assert not running_below(detached.folder)


def test_concurrent_ups_start_one(detached: Detached, kafka_is_fetched: None) -> None:
    ups = [
        subprocess.Popen(
            [
                *(*CLI, "up", "--folder", str(detached.folder), "--json"),
                *("--kafka-port", str(detached.kafka_port)),
                *("--redis-port", str(detached.redis_port)),
            ],
            stdout=subprocess.PIPE,
        )
        for _ in range(2)
    ]
    shown = [json.loads(up.communicate(timeout=90)[0]) for up in ups]
    assert [up.returncode for up in ups] == [0, 0]
    assert shown[0]["kafka"]["pid"] == shown[1]["kafka"]["pid"]
    assert len(running_below(detached.folder)) == 2
