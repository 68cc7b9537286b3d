"""What workers say of themselves, and what `doctor` makes of it."""

import secrets
import signal
import time
from typing import cast

from streamer.ledger import heartbeats, keys
from streamer.ledger.connection import Client
from streamer.ledger.heartbeats import Heartbeat, Heartbeats
from tests.kit.harness import Harness, wait_until
from tests.kit.operator import CommandRunner


def _beat(instance: str, since: int | None = None) -> Heartbeat:
    return Heartbeat(
        worker="w", instance=instance, host="h", pid=1, clock=time.time(), since=since, waiting=3
    )


def test_a_heartbeat_is_read_with_its_age(client: Client) -> None:
    of_group = Heartbeats(client, secrets.token_hex(4))
    assert of_group.read() == []
    at = of_group.write(_beat("a"))
    (seen,) = of_group.read()
    assert seen.heartbeat.waiting == 3
    assert seen.at == seen.since == at
    assert 0 <= seen.age_s < 5
    assert abs(seen.ahead_s) < 5
    of_group.write(_beat("a", since=at))
    (seen,) = of_group.read()
    assert seen.since == at
    of_group.remove("a")
    assert of_group.read() == []


def test_old_heartbeats_are_dropped_by_a_new_worker(client: Client) -> None:
    group = secrets.token_hex(4)
    of_group = Heartbeats(client, group)
    at = of_group.write(_beat("old"))
    key = keys.heartbeats(group)
    value = cast(bytes, client.hget(key, "old"))
    old = at - (heartbeats.KEPT_S + 1) * 1000
    client.hset(key, "old", value.replace(str(at).encode(), str(old).encode(), 1))
    assert of_group.read() == []
    of_group.write(_beat("b", since=at))  # only the first heartbeat of a worker looks
    assert client.hlen(key) == 2
    of_group.write(_beat("c"))
    assert client.hlen(key) == 2


def test_doctor_sees_whether_a_worker_runs(harness: Harness, operator: CommandRunner) -> None:
    harness.produce([harness.event(n) for n in range(3)])
    text = operator.run("doctor", code=1).stdout
    assert "failed   workers: no worker is running, and 3 records wait" in text
    worker = harness.start_worker()
    of_group = Heartbeats(harness.redis, harness.name)
    wait_until(lambda: any(each.heartbeat.partitions for each in of_group.read()), 60, "it works")
    text = operator.run("doctor").stdout
    assert f"ok       workers: 1 running: {harness.name}-w-0 (4 partitions" in text
    assert worker.stop() == 0
    assert of_group.read() == []


def test_a_fenced_worker_is_told_of(harness: Harness, operator: CommandRunner) -> None:
    first = harness.start_worker()
    of_group = Heartbeats(harness.redis, harness.name)
    wait_until(lambda: any(each.heartbeat.partitions for each in of_group.read()), 60, "it works")
    first.signal(signal.SIGSTOP)
    second = harness.start_worker()
    wait_until(lambda: len(of_group.read()) > 1, 60, "the second has taken its id")
    first.signal(signal.SIGCONT)
    assert first.wait() == 1
    text = operator.run("doctor", code=1).stdout
    assert f"worker {harness.name}-w-0: two workers use this id, and end each other" in text
    # Unless the first could rejoin before it ended.
    assert second.stop() in (0, 1)
