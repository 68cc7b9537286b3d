"""A process counts as a folder's server only if it runs in that folder."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamer.stack import DetachedStack
from streamer.stack.process_record import ProcessRecord, forget


def record_of(pid: int) -> ProcessRecord:
    return ProcessRecord(pid=pid, port=1, version="Nothing 1.0")


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process running in the folder."""
    command = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    with subprocess.Popen(command, cwd=tmp_path, stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def test_records_round_trip(tmp_path: Path) -> None:
    record_of(42).write(tmp_path)
    assert ProcessRecord.read(tmp_path) == record_of(42)
    forget(tmp_path)
    assert ProcessRecord.read(tmp_path) is None


def test_an_unreadable_record_is_none(tmp_path: Path) -> None:
    record_of(42).write(tmp_path)
    for file in tmp_path.iterdir():
        file.write_text('{"pid": ')
    assert ProcessRecord.read(tmp_path) is None


def test_the_folders_server_is_found(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    process = record_of(sleeper.pid).process(tmp_path)
    assert process is not None
    assert process.pid == sleeper.pid


def test_an_ended_process_is_none(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    sleeper.kill()
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    assert record_of(sleeper.pid).process(tmp_path) is None  # a zombie, not reaped yet
    sleeper.wait()
    assert record_of(sleeper.pid).process(tmp_path) is None


def test_a_reused_pid_is_none(tmp_path: Path) -> None:
    assert record_of(os.getpid()).process(tmp_path) is None


def test_down_spares_unrelated_processes(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    folder = tmp_path / "kafka"
    folder.mkdir()
    record_of(sleeper.pid).write(folder)
    stack = DetachedStack(tmp_path)
    assert [service.pid for service in stack.status()] == [None, None]
    assert stack.down() == []
    assert sleeper.poll() is None
    assert ProcessRecord.read(folder) is None
