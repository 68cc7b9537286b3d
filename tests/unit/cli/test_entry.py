"""The entry point."""

import subprocess
import sys

import pytest

from streamer.errors import INTERRUPTED

_INTERRUPTED_IMPORT = """
import os, signal, sys

handler, module = sys.argv[1:]

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == module:
            os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, getattr(signal, handler))
sys.argv[1:] = ["topics", "--help"]
sys.meta_path.insert(0, Finder())
from streamer.__main__ import main
main()
"""
_IMPORTED = """
import sys
from streamer.cli import app

try:
    app(sys.argv[1:])
finally:
    print(*sys.modules, sep="\\n", file=sys.stderr)
"""


@pytest.mark.parametrize("module", ["streamer.cli", "streamer.cli.topics"])
@pytest.mark.parametrize(
    ("handler", "code"), [("default_int_handler", INTERRUPTED), ("SIG_IGN", 0)]
)
def test_an_interrupt_at_the_very_start_shows_nothing(handler: str, code: int, module: str) -> None:
    """In the background of a script it is ignored, as the shell wants it."""
    command = [sys.executable, "-c", _INTERRUPTED_IMPORT, handler, module]
    result = subprocess.run(command, capture_output=True, check=False)
    assert (result.returncode, result.stderr) == (code, b"")


@pytest.mark.parametrize("command", ["trace", "outcomes"])
def test_a_command_that_reads_imports_nothing_that_sends(command: str) -> None:
    result = subprocess.run(
        [sys.executable, "-c", _IMPORTED, command, "--help"], capture_output=True, text=True
    )
    assert result.returncode == 0
    imported = result.stderr.split()
    assert f"streamer.cli.{command}" in imported
    assert [
        name
        for name in imported
        if name.startswith(("streamer.worker", "streamer.sandbox", "streamer.stack", "resend"))
    ] == []
