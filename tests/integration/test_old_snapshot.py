"""Redis is restored from a snapshot that is older than what workers have committed, or is empty.

Workers halt; the ledger is rebuilt from the topics; nobody is mailed twice.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
import pytest
from confluent_kafka.admin import AdminClient
from typer.testing import CliRunner

from streamer.cli import app
from streamer.cli.common import kafka_admin
from streamer.cli.reading import topic_reader
from streamer.kafka.members import members_of
from streamer.ledger import keys
from streamer.model.pulse import OffsetMetadata
from streamer.recovery.rebuild import Rebuilder
from streamer.sandbox import Faults, SandboxProcess
from streamer.settings import Settings
from streamer.stack import RedisServer
from tests.kit.harness import Harness, WorkerProcess, wait_until
from tests.kit.operator import Answer, CommandRunner
from tests.kit.redis_snapshot import RedisSnapshot

pytestmark = pytest.mark.slow

_SETTINGS = {
    "STREAMER_BATCH__SIZE": "20",
    # Few records are read ahead, so that most are beyond the reach.
    "STREAMER_BATCH__MAX_IN_FLIGHT": "4",
    "STREAMER_ACCOUNTS__DEFAULT__REQUESTS_PER_SECOND": "15",
}
_RECORDS = 3_000


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


def _in_reach(harness: Harness) -> int:
    """How many records lie between the committed offsets and their reaches."""
    written = Counter(record.record_id.partition for record in harness.inputs())
    count = 0
    for each in harness.committed_offsets():
        if each.offset >= 0:
            reach = OffsetMetadata.parse(each.metadata).reach
            assert reach is not None
            count += min(reach, written[each.partition]) - each.offset
    return count


def _await_mails(sandbox: SandboxProcess, more: int) -> None:
    before = sandbox.stats().accepted
    wait_until(lambda: sandbox.stats().accepted > before + more, 60, "mails are sent")


def _assert_halted(worker: WorkerProcess, harness: Harness) -> None:
    assert worker.wait(30) == 1
    words = worker.words()
    assert "the ledger in Redis is older than the committed offsets" in words
    assert "streamer ledger rebuild" in words
    assert f"{harness.organization}/spring (" in words


def _rebuild(operator: CommandRunner) -> Answer:
    """Rebuild the ledger once killed workers are no members any more."""

    def answered() -> bool:
        arguments = ["ledger", "rebuild", "--yes", "--json"]
        result = CliRunner().invoke(app, arguments, env=operator.environment)
        if result.exit_code == 0:
            found.append(orjson.loads(result.stdout))
            return True
        assert "has members" in result.output, result.output
        return False

    found: list[Answer] = []
    wait_until(answered, 30, "the ledger is rebuilt")
    return found[0]


def _go_on(harness: Harness, lost: int) -> None:
    """Send the rest, and all again: nobody is mailed twice, and only these many are unknown."""
    with harness.worker(2), harness.worker(3):
        harness.await_resolutions(_RECORDS, 120)
        harness.produce(harness.event(number) for number in range(_RECORDS))
        harness.await_resolutions(2 * _RECORDS, 60)
    counts = harness.status_counts()
    assert counts == {
        ("sent", None): _RECORDS - lost,
        ("indeterminate", "ledger_lost"): lost,
        ("skipped", "duplicate"): _RECORDS,
    }
    harness.assert_exactly_once(forgotten=True)


def _restored(
    harness: Harness, redis: RedisServer, sandbox: SandboxProcess, folder: Path
) -> list[WorkerProcess]:
    """Two workers that are killed in the middle of a campaign; then Redis forgets the half."""
    workers = [harness.start_worker(number) for number in range(2)]
    _await_mails(sandbox, 200)
    snapshot = RedisSnapshot(redis, folder)
    has = harness.redis.get(keys.pulse(harness.name))
    _await_mails(sandbox, 400)
    wait_until(lambda: _committed_pulse(harness) > int(has or 0), 20, "a later pulse is committed")
    for worker in workers:
        worker.kill()
    snapshot.restore(redis)
    return workers


def test_a_ledger_that_is_older_is_rebuilt(
    harness: Harness, redis: RedisServer, sandbox: SandboxProcess, tmp_path: Path
) -> None:
    _restored(harness, redis, sandbox, tmp_path / "snapshot")
    operator = CommandRunner.of_harness(harness)
    words = operator.run("ledger", "status", code=1).output
    assert "SLOT WITHOUT ITS LATEST WRITES" in words
    assert f"  {operator.campaign}: " in words
    in_reach = _in_reach(harness)
    resolved = len(harness.resolutions())
    report = _rebuild(operator)
    lost = report["lost"]
    assert isinstance(lost, list)
    # Those that were mailed, and are not known as such, are among them.
    assert 0 < len(lost) <= in_reach < _RECORDS - resolved
    assert {each["campaign_id"] for each in lost} == {"spring"}
    assert report["undefined_campaigns"] == [operator.campaign]
    assert operator.run("ledger", "status").output.endswith("nothing is missing\n")
    assert operator.answer("ledger", "rebuild", "--yes") == {"since": None}
    _go_on(harness, len(lost))


def test_an_empty_redis_is_rebuilt(
    harness: Harness, redis: RedisServer, sandbox: SandboxProcess
) -> None:
    worker = harness.start_worker(0)
    _await_mails(sandbox, 400)
    worker.kill()
    harness.redis.flushall()
    assert harness.start_worker(1).wait(30) == 1
    operator = CommandRunner.of_harness(harness)
    assert "epoch: missing" in operator.run("ledger", "status", code=1).output
    report = _rebuild(operator)
    lost = report["lost"]
    assert isinstance(lost, list)
    assert 0 < len(lost) < _RECORDS - 200
    _go_on(harness, len(lost))


def test_a_rebuild_is_refused_while_a_worker_is_alive(
    harness: Harness, sandbox: SandboxProcess
) -> None:
    operator = CommandRunner.of_harness(harness)
    with harness.worker(0):
        _await_mails(sandbox, 1)
        harness.redis.delete(keys.pulse(harness.name))
        words = operator.run("ledger", "rebuild", "--yes", code=1).output
        assert "has members" in words
        assert harness.redis.get(keys.rebuild(harness.name)) is None
        pulse = _committed_pulse(harness)
        harness.redis.set(keys.pulse(harness.name), pulse + 10_000_000)


class _StopError(Exception):
    """The process is killed here."""


def test_a_rebuild_that_is_killed_anywhere_is_started_again(
    harness: Harness,
    redis: RedisServer,
    sandbox: SandboxProcess,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _restored(harness, redis, sandbox, tmp_path / "snapshot")
    for name, value in harness.environment().items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    wait_until(lambda: not _members(harness), 30, "killed workers are no members any more")
    reached: list[str] = []
    reports = []
    for killed_at in range(100):
        steps = iter(range(100))

        def checkpoint(name: str, steps: Iterator[int] = steps, at: int = killed_at) -> None:
            if next(steps) == at:
                reached.append(name)
                raise _StopError

        with topic_reader(settings) as reader, kafka_admin(settings) as admin:
            rebuilder = Rebuilder(settings, harness.redis, admin, reader, lambda values: None)
            try:
                reports.append(rebuilder.run(lambda found, since: None, checkpoint))
                break
            except _StopError:
                is_begun = harness.redis.get(keys.rebuild(harness.name)) is not None
                assert is_begun == (reached[-1] != "before_begin")
                if is_begun and killed_at < 3:
                    worker = harness.start_worker(2)
                    assert worker.wait(30) == 1
                    assert "is being rebuilt" in worker.words()
    assert {*reached} == {"before_begin", "begun", "outcomes", "lost", "before_accept", "accepted"}
    (report,) = reports
    assert report is not None
    _go_on(harness, len(report.lost))


def _members(harness: Harness) -> list[str]:
    admin = AdminClient({"bootstrap.servers": harness.bootstrap_servers})
    return members_of(admin, harness.name)


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
    wait_until(lambda: sandbox.stats().in_flight == 0, 10, "no call is under way")
    accepted = sandbox.stats().accepted
    _assert_halted(harness.start_worker(1), harness)
    assert sandbox.stats().accepted == accepted
