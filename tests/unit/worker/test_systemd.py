"""What systemd is told, and the unit that relies on it."""

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from configparser import RawConfigParser
from pathlib import Path

import pytest

from streamer.errors import WRONG_USE
from streamer.settings import Settings
from streamer.worker import systemd
from streamer.worker.process import _TICK_LIMIT_S
from streamer.worker.systemd import SystemdNotifier, notify

UNIT = Path(__file__).parents[3] / "config" / "systemd" / "streamer@.service"


@pytest.fixture(params=["path", "abstract"])
def manager(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[socket.socket]:
    """The socket of systemd."""
    name = str(tmp_path / "notify") if request.param == "path" else f"@streamer-{os.getpid()}"
    monkeypatch.setenv("NOTIFY_SOCKET", name)
    monkeypatch.setattr(systemd, "_LOOK_EVERY_S", 0.001)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(name.replace("@", "\0") if request.param == "abstract" else name)
        receiver.settimeout(20)
        yield receiver


def _next(manager: socket.socket, wanted: str) -> str:
    """The next datagram with the wanted state."""
    while True:
        said = manager.recv(4096).decode()
        if wanted in said:
            return said


def test_readiness_comes_once_and_changes_of_the_status_each_time(manager: socket.socket) -> None:
    wrong: list[str | None] = ["waiting for Redis"]
    state = ["running"]
    notifier = SystemdNotifier(lambda: None, lambda: wrong[-1], lambda: state[-1])
    notifier.start()
    assert manager.recv(4096) == b"STATUS=waiting for Redis\nWATCHDOG=1"
    assert manager.recv(4096) == b"WATCHDOG=1"
    wrong.append(None)
    assert _next(manager, "READY=1") == "READY=1\nSTATUS=running\nWATCHDOG=1"
    wrong.append("not a member of the group yet")
    assert "READY" not in _next(manager, "STATUS")
    wrong.append(None)
    assert _next(manager, "STATUS") == "STATUS=running\nWATCHDOG=1"
    notifier.stop()
    assert _next(manager, "STOPPING") == "STOPPING=1"


def test_what_is_stuck_is_left_to_the_watchdog(manager: socket.socket) -> None:
    stuck: list[str | None] = [None]
    state = ["running"]
    notifier = SystemdNotifier(lambda: stuck[-1], lambda: None, lambda: state[-1])
    notifier.start()
    _next(manager, "READY=1")
    stuck.append("the loop made no progress for 31 s")
    state.append("stuck")
    _next(manager, "STATUS=stuck")
    state.append("still stuck")
    assert _next(manager, "STATUS=still stuck") == "STATUS=still stuck"
    notifier.stop()


def test_nothing_is_told_where_there_is_no_systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify("READY=1")
    notifier = SystemdNotifier(lambda: None, lambda: None, lambda: "running")
    notifier.start()
    assert not notifier._thread.is_alive()
    notifier.stop()
    monkeypatch.setenv("NOTIFY_SOCKET", "/nowhere/notify")
    notify("READY=1")


def _unit() -> RawConfigParser:
    class Unit(RawConfigParser):
        def optionxform(self, optionstr: str) -> str:
            return optionstr

    unit = Unit(strict=False, delimiters=("=",), comment_prefixes=("#",), interpolation=None)
    unit.read_string(UNIT.read_text(encoding="utf-8"))
    return unit


def test_the_unit_gives_a_worker_its_time() -> None:
    service = _unit()["Service"]
    assert service["Type"] == "notify"
    assert float(service["TimeoutStopSec"]) > Settings().worker.shutdown_timeout_s + 20
    assert float(service["WatchdogSec"]) > _TICK_LIMIT_S
    assert int(service["RestartPreventExitStatus"]) == WRONG_USE


def test_the_unit_s_variables_are_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = re.findall(r"^Environment=(.+)$", UNIT.read_text(encoding="utf-8"), re.MULTILINE)
    given = dict(pair.split("=", 1) for line in lines for pair in line.split())
    for name, value in given.items():
        monkeypatch.setenv(name, value.replace("%i", "4").replace("%H", "mailer"))
    settings = Settings()
    assert (settings.worker.id, settings.metrics.port) == ("mailer-4", Settings().metrics.port)
    assert settings.metrics.port == 9464
    assert given["TMPDIR"].removeprefix("%t/") == _unit()["Service"]["RuntimeDirectory"]


def test_systemd_reads_the_unit(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed: the unit is not verified")
    # It looks for the program, so give it one that is there.
    text = UNIT.read_text(encoding="utf-8").replace("/opt/streamer/bin/streamer", "/bin/true")
    copy = tmp_path / "streamer@4.service"
    copy.write_text(text, encoding="utf-8")
    result = subprocess.run(
        [analyze, "verify", "--man=no", str(copy)], capture_output=True, text=True, check=False
    )
    about = [line for line in result.stderr.splitlines() if "streamer@" in line]
    assert about == []
    assert result.returncode == 0, result.stderr
