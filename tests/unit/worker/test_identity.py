"""The id of a worker is its own: on one machine by locks, between machines by a lease."""

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamer.settings import Settings, WorkerSettings
from streamer.worker.identity import MachineLock, own_id

_HOLDS = """
import sys, time
from streamer.worker.identity import MachineLock
lock = MachineLock(sys.argv[1])
lock.write("predecessor")
print("has it", flush=True)
time.sleep(60)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without other workers."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.delenv("STREAMER_WORKER__ID", raising=False)
    return tmp_path


@pytest.fixture
def other() -> Iterator[subprocess.Popen[str]]:
    """Another process, which has the lock `a`."""
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLDS, "a"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "has it\n"
    yield process
    process.kill()
    process.communicate()


def test_a_lock_is_of_one_live_process(other: subprocess.Popen[str]) -> None:
    with pytest.raises(BlockingIOError):
        MachineLock("a")
    MachineLock("b").release()
    other.send_signal(signal.SIGSTOP)
    with pytest.raises(BlockingIOError):
        MachineLock("a")
    other.kill()
    other.wait()
    lock = MachineLock("a")
    assert lock.read() == "predecessor"
    lock.release()
    again = MachineLock("a")
    assert again.read() == ""
    again.write("first")
    again.write("second")
    assert again.read() == "second"
    again.release()


def test_a_released_lock_leaves_nothing(folder: Path) -> None:
    MachineLock("a").release()
    assert [path.name for path in folder.rglob("*") if path.is_file()] == []


def test_a_lock_file_that_was_deleted_meanwhile_is_none(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock = "streamer.worker.identity.fcntl.flock"
    locked: list[object] = []

    def deleted_at_first(file: object, operation: int) -> None:
        del operation
        if not locked:
            next(path for path in folder.rglob("*.lock")).unlink()
        locked.append(file)

    monkeypatch.setattr(flock, deleted_at_first)
    MachineLock("a").write("x")
    assert len(locked) == 2
    assert len(list(folder.rglob("*.lock"))) == 1


def test_each_process_of_a_machine_has_an_id_by_default() -> None:
    host = socket.gethostname()
    with own_id(Settings()) as first, own_id(Settings()) as second:
        assert first.worker.id == host
        with own_id(Settings()) as third:
            assert [second.worker.id, third.worker.id] == [f"{host}.1", f"{host}.2"]
        with own_id(Settings()) as again:
            assert again.worker.id == f"{host}.2"


def test_groups_do_not_share_ids() -> None:
    other = Settings.model_validate({"kafka": {"group_id": "other"}})
    with own_id(Settings()) as first, own_id(other) as second:
        assert first.worker.id == second.worker.id


def test_a_configured_id_is_kept() -> None:
    settings = Settings(worker=WorkerSettings(id="mailer"))
    with own_id(settings) as first, own_id(settings) as second:
        assert first.worker.id == second.worker.id == "mailer"


def test_an_id_needs_no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> str:
        raise FileNotFoundError("no usable temporary directory")

    monkeypatch.setattr("tempfile.gettempdir", none)
    with own_id(Settings()) as settings:
        assert settings.worker.id == socket.gethostname()
