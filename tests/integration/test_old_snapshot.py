"""Redis is restored from a snapshot that is older than what workers have committed."""

from collections.abc import Callable
from pathlib import Path

import pytest

from streamer.ledger import keys
from streamer.model.pulse import OffsetMetadata
from streamer.sandbox import Faults, SandboxProcess
from streamer.stack import RedisServer
from tests.kit.harness import Harness, WorkerProcess, wait_until
from tests.kit.redis_snapshot import RedisSnapshot

_SETTINGS = {
    "STREAMER_BATCH__SIZE": "20",
    "STREAMER_ACCOUNTS__DEFAULT__REQUESTS_PER_SECOND": "15",
}
_RECORDS = 1_500


@pytest.fixture
def redis(make_redis: Callable[[], RedisServer]) -> RedisServer:
    return make_redis()


@pytest.fixture
def harness(make_harness: Callable[..., Harness], redis: RedisServer) -> Harness:
    one = make_harness(redis=redis)
    one.settings |= _SETTINGS
    one.sandbox.set_faults(Faults(latency_ms=300))  # so that some calls are under way
    one.produce(one.event(number) for number in range(_RECORDS))
    return one


def _committed_pulse(harness: Harness) -> int:
    offsets = harness.committed_offsets()
    return max(OffsetMetadata.parse(each.metadata).pulse for each in offsets)


def _await_mails(sandbox: SandboxProcess, more: int) -> None:
    before = sandbox.stats().accepted
    wait_until(lambda: sandbox.stats().accepted > before + more, 60, "mails are sent")


def _assert_halted(worker: WorkerProcess, harness: Harness) -> None:
    assert worker.wait(30) == 1
    words = worker.words()
    assert "the ledger in Redis is older than the committed offsets" in words
    assert "streamer ledger rebuild" in words
    assert f"{harness.organization}/spring (" in words


def test_running_workers_halt(
    harness: Harness, redis: RedisServer, sandbox: SandboxProcess, tmp_path: Path
) -> None:
    workers = [harness.start_worker(number) for number in range(2)]
    _await_mails(sandbox, 200)
    snapshot = RedisSnapshot(redis, tmp_path / "snapshot")
    has = harness.redis.get(keys.pulse(harness.name))
    _await_mails(sandbox, 200)
    wait_until(lambda: _committed_pulse(harness) > int(has or 0), 20, "a later pulse is committed")
    snapshot.restore(redis)
    for worker in workers:
        _assert_halted(worker, harness)


def test_workers_that_start_halt_and_send_nothing(
    harness: Harness, redis: RedisServer, sandbox: SandboxProcess, tmp_path: Path
) -> None:
    worker = harness.start_worker(0)
    _await_mails(sandbox, 200)
    snapshot = RedisSnapshot(redis, tmp_path / "snapshot")
    has = harness.redis.get(keys.pulse(harness.name))
    _await_mails(sandbox, 200)
    wait_until(lambda: _committed_pulse(harness) > int(has or 0), 20, "a later pulse is committed")
    worker.kill()
    snapshot.restore(redis)
    accepted = sandbox.stats().accepted
    _assert_halted(harness.start_worker(1), harness)
    assert sandbox.stats().accepted == accepted
