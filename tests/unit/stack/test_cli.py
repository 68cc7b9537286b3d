"""`streamer stack`: wrong use, and status without running servers."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from streamer.cli import app


@pytest.mark.parametrize(
    "arguments",
    [
        ["up", "--ephemeral", "--kafka-port", "9092"],
        ["up", "--ephemeral", "--folder", "somewhere"],
        ["up", "--kafka-port", "70000"],
        ["up", "--kafka-port", "9000", "--redis-port", "9000"],
    ],
)
def test_wrong_use(arguments: list[str]) -> None:
    assert CliRunner().invoke(app, ["stack", *arguments]).exit_code == 2


def test_nothing_is_running(tmp_path: Path) -> None:
    folder = ["--folder", str(tmp_path / "stack")]
    shown = CliRunner().invoke(app, ["stack", "status", *folder, "--json"])
    assert shown.exit_code == 1
    services = json.loads(shown.stdout)
    assert [services[name]["state"] for name in ("kafka", "redis")] == ["stopped", "stopped"]
    ended = CliRunner().invoke(app, ["stack", "down", *folder])
    assert (ended.exit_code, ended.stdout) == (0, "Not running.\n")


def test_default_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    shown = CliRunner().invoke(app, ["stack", "status", "--json"])
    assert json.loads(shown.stdout)["folder"] == str(tmp_path / "streamer" / "stack")
