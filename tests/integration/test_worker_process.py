"""A worker as a process: how it starts, shows itself, is supervised and stops."""

import signal
import socket
from collections.abc import Callable
from pathlib import Path

import orjson
import psutil
import pytest
import urllib3

from streamer.ledger.connection import connect
from streamer.sandbox import Faults
from streamer.settings import RedisSettings
from streamer.stack import RedisServer
from streamer.stack.ports import free_port
from tests.kit.harness import Harness, WorkerProcess, wait_until


def _run(harness: Harness, *arguments: str, **settings: str) -> WorkerProcess:
    harness.settings |= settings
    return harness.start_worker(command=("-m", "streamer", "run", *arguments))


def _get(port: int, path: str) -> tuple[int, str]:
    try:
        answer = urllib3.request("GET", f"http://127.0.0.1:{port}{path}", retries=False)
    except urllib3.exceptions.HTTPError:
        return 0, ""
    return answer.status, answer.data.decode()


def _children(worker: WorkerProcess) -> list[psutil.Process]:
    found = []
    for child in psutil.Process(worker.process.pid).children():
        try:
            command = " ".join(child.cmdline())
        except psutil.Error:  # it ended meanwhile
            continue
        if "spawn_main" in command:
            found.append(child)
    return found


def test_health_readiness_and_metrics(harness: Harness) -> None:
    port = free_port()
    worker = _run(harness, STREAMER_METRICS__PORT=str(port))
    wait_until(lambda: _get(port, "/readyz")[0] == 200, 30, "the worker is ready")
    assert _get(port, "/healthz")[0] == 200
    assert _get(port, "/nothing")[0] == 404
    harness.produce([harness.event(1), harness.event(2, email="nobody"), b"?"], partition=0)
    harness.await_resolutions(3)

    def shows(*lines: str) -> bool:
        text = _get(port, "/metrics")[1]
        return all(line in text for line in lines)

    wait_until(
        lambda: shows(
            "streamer_records_consumed_total 3.0",
            'streamer_outcomes_total{reason="",status="sent"} 1.0',
            'streamer_outcomes_total{reason="invalid_address",status="failed"} 1.0',
            'streamer_dead_letters_total{reason="undecodable"} 1.0',
            'streamer_api_requests_total{account="default",result="accepted"} 1.0',
            "streamer_batch_emails_count 1.0",
            "streamer_in_flight_emails 0.0",
            f'streamer_consumer_lag{{partition="0",topic="{harness.topics.recipients}"}} 0.0',
        ),
        10,
        "the metrics show what happened",
    )
    text = _get(port, "/metrics")[1]
    assert "example.com" not in text
    assert "r-1" not in text
    assert worker.stop() == 0, worker.words()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_systemd_is_told_when_a_service_is_ready_and_stops(
    harness: Harness, tmp_path: Path, workers: str
) -> None:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        manager.settimeout(60)
        worker = _run(harness, "--workers", workers, NOTIFY_SOCKET=path)
        said = ""
        while "READY=1" not in said:
            said = manager.recv(4096).decode()
        assert "WATCHDOG=1" in said
        worker.signal(signal.SIGTERM)
        while "STOPPING=1" not in said:
            said = manager.recv(4096).decode()
    assert worker.wait() == 0, worker.words()


def test_a_starting_worker_reports_waiting_for_redis(
    harness: Harness, make_redis: Callable[[], RedisServer]
) -> None:
    redis = make_redis()
    redis.kill()
    port = free_port()
    worker = harness.start_worker(
        0, STREAMER_METRICS__PORT=str(port), STREAMER_REDIS__URL=redis.url
    )
    wait_until(lambda: "waiting for Redis" in _get(port, "/readyz")[1], 30, "it says what for")
    assert _get(port, "/healthz")[0] == 200
    redis.start()
    wait_until(lambda: _get(port, "/readyz")[0] == 200, 30, "the worker is ready")
    assert "Redis is available again" in worker.words()
    assert worker.stop() == 0


def test_a_wrong_redis_password_ends_the_worker(
    harness: Harness, make_redis: Callable[[], RedisServer]
) -> None:
    redis = make_redis()
    connect(RedisSettings(url=redis.url)).config_set("requirepass", "secret")
    worker = harness.start_worker(0, STREAMER_REDIS__URL=redis.url)
    assert worker.wait() == 1
    assert "check user and password in redis.url" in worker.words()


def test_a_worker_without_partitions_is_ready(harness: Harness) -> None:
    ports = [free_port() for _ in range(5)]
    workers = [
        harness.start_worker(number, STREAMER_METRICS__PORT=str(port - number))
        for number, port in enumerate(ports)
    ]
    for port in ports:
        wait_until(lambda: _get(port, "/readyz")[0] == 200, 40, "every worker is ready")  # noqa: B023
    for worker in workers:
        worker.signal(signal.SIGTERM)
    assert [worker.wait() for worker in workers] == [0] * 5


def test_a_supervisor_replaces_a_killed_worker(harness: Harness) -> None:
    harness.produce(harness.event(number) for number in range(2000))
    supervisor = _run(
        harness, "--workers", "2", STREAMER_ACCOUNTS__DEFAULT__REQUESTS_PER_SECOND="5"
    )
    wait_until(lambda: harness.sandbox.stats().accepted > 200, 40, "they send")
    victim = _children(supervisor)[0]
    victim.kill()
    wait_until(
        lambda: (
            victim.pid not in {c.pid for c in _children(supervisor)}
            and len(_children(supervisor)) == 2
        ),
        20,
        "another worker takes its place",
    )
    harness.await_resolutions(2000)
    assert supervisor.stop() == 0, supervisor.words()
    harness.assert_exactly_once()


def test_workers_stop_when_their_supervisor_dies(harness: Harness) -> None:
    supervisor = _run(harness, "--workers", "2")
    wait_until(lambda: supervisor.words().count("partitions assigned") >= 2, 40, "both work")
    children = _children(supervisor)
    supervisor.kill()
    _, alive = psutil.wait_procs(children, timeout=30)
    assert alive == []


def test_a_supervisor_gives_up_on_dying_workers(harness: Harness) -> None:
    supervisor = _run(harness, "--workers", "2")

    def kill_all() -> bool:
        for child in _children(supervisor):
            child.kill()
        return supervisor.process.poll() is not None

    wait_until(kill_all, 120, "the supervisor gives up")
    assert supervisor.wait() == 1
    assert "keeps dying" in supervisor.words()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"STREAMER_UNSUBSCRIBE__SECRET": ""}, "unsubscribe"),
        ({"STREAMER_UNSUBSCRIBE__BASE_URL": "http://example.com"}, "https"),
        ({"STREAMER_BATCH__SIZE": "0"}, "batch.size"),
    ],
)
def test_invalid_settings_are_reported(
    harness: Harness, settings: dict[str, str], words: str
) -> None:
    worker = _run(harness, **settings)
    assert worker.wait() == 2
    assert words in worker.words()
    assert "Traceback" not in worker.words()


def test_an_evicting_redis_is_refused(harness: Harness) -> None:
    harness.redis.config_set("maxmemory-policy", "allkeys-lru")
    try:
        worker = _run(harness)
        assert worker.wait() == 2
        assert "noeviction" in worker.words()
    finally:
        harness.redis.config_set("maxmemory-policy", "noeviction")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_hands_over_in_flight_batches(harness: Harness, number: signal.Signals) -> None:
    harness.produce(harness.event(n) for n in range(1000))
    harness.sandbox.set_faults(Faults(outage="unavailable"))
    worker = _run(harness, STREAMER_WORKER__SHUTDOWN_TIMEOUT_S="1")
    wait_until(lambda: harness.sandbox.stats().calls >= 8, 30, "it tries")
    worker.signal(number)
    assert worker.wait() == 0, worker.words()
    harness.sandbox.reset_faults()
    with harness.worker():
        harness.await_resolutions(1000)
    harness.assert_exactly_once()
    assert harness.status_counts() == {("sent", None): 1000}


def test_a_stop_finishes_in_flight_batches(harness: Harness) -> None:
    harness.produce((harness.event(n) for n in range(100)), partition=0)
    harness.sandbox.set_faults(Faults(outage="unavailable"))
    worker = _run(harness)
    wait_until(lambda: harness.sandbox.stats().calls >= 2, 30, "it tries")
    worker.signal(signal.SIGTERM)
    wait_until(lambda: "draining: finishing" in worker.words(), 10, "it stops")
    harness.sandbox.reset_faults()
    assert worker.wait() == 0, worker.words()
    assert harness.status_counts() == {("sent", None): 100}


def test_a_worker_waits_while_redis_says_not_now(
    make_harness: Callable[..., Harness], make_redis: Callable[[], RedisServer]
) -> None:
    redis, port = make_redis(), free_port()
    harness = make_harness(redis=redis)
    worker = harness.start_worker(0, STREAMER_METRICS__PORT=str(port))
    wait_until(lambda: _get(port, "/readyz")[0] == 200, 30, "the worker is ready")
    harness.redis.config_set("min-replicas-to-write", 1)
    harness.produce(harness.event(n) for n in range(10))
    wait_until(lambda: "NOREPLICAS" in _get(port, "/readyz")[1], 10, "it says what it waits for")
    assert _get(port, "/healthz")[0] == 200
    harness.redis.config_set("min-replicas-to-write", 0)
    harness.await_resolutions(10)
    wait_until(lambda: _get(port, "/readyz")[0] == 200, 10, "the worker is ready again")
    assert worker.stop() == 0, worker.words()
    harness.assert_exactly_once()


def test_logs_contain_no_address_or_secret(harness: Harness) -> None:
    harness.sandbox.set_faults(
        Faults(error_before_percent=50, refused=frozenset({"user3@example.com"}))
    )
    harness.produce(harness.event(n) for n in range(300))
    with harness.worker(STREAMER_LOG__FORMAT="json") as worker:
        harness.await_resolutions(300)
    lines = [orjson.loads(line) for line in worker.words().splitlines() if line[0] == "{"]
    assert any(line["message"].startswith("call failed") for line in lines)
    assert "@example.com" not in worker.words()
    assert "re_sandbox" not in worker.words()
    assert "a secret for tests" not in worker.words()


def test_a_worker_exits_on_a_flood_of_dead_letters(
    harness: Harness,
) -> None:
    harness.settings |= {"STREAMER_BREAKER__RECORDS": "20", "STREAMER_BREAKER__DEAD_SHARE": "0.5"}
    harness.produce((b"not json" for _ in range(500)), partition=0)
    supervisor = harness.start_worker(command=("-m", "streamer", "run", "--workers", "2"))
    assert supervisor.wait(60) == 1
    assert "most of the last records are dead letters" in supervisor.words()
    assert len(harness.dead_letters()) <= 10
    harness.settings["STREAMER_BREAKER__DEAD_SHARE"] = "1"
    with harness.worker():
        harness.await_resolutions(500)
    harness.assert_exactly_once()
