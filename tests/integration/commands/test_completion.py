"""Completion of names in bash, zsh and fish."""

import os
import subprocess
import sys

import pytest

from tests.kit.desk import Desk
from tests.kit.operator import NOWHERE

_CODE = "import sys; sys.argv[0] = 'streamer'; from streamer.cli import main; main()"


def _completed(shell: str, line: str, environment: dict[str, str]) -> str:
    variables = {
        "_STREAMER_COMPLETE": f"complete_{shell}",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(line.split(" ")) - 1),
        "_TYPER_COMPLETE_ARGS": line,
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }
    return subprocess.run(
        [sys.executable, "-c", _CODE],
        env={**os.environ, **environment, **variables},
        capture_output=True,
        text=True,
        check=False,
    ).stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_names_are_completed(desk: Desk, shell: str) -> None:
    desk.define()
    begun = desk.campaign[:-3]
    assert desk.campaign in _completed(shell, f"streamer campaign show {begun}", desk.environment)
    assert desk.campaign not in _completed(shell, "streamer campaign show x", desk.environment)
    accounts = _completed(shell, "streamer account hold ", desk.environment)
    assert "default" in accounts
    assert desk.organization in accounts


def test_nothing_is_completed_without_redis(desk: Desk) -> None:
    away = {**desk.environment, "STREAMER_REDIS__URL": f"redis://{NOWHERE}"}
    assert _completed("bash", "streamer campaign show a", away).strip() == ""
