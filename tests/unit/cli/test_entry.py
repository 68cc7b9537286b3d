"""The entry point."""

import subprocess
import sys

import pytest

from streamer.errors import INTERRUPTED

_INTERRUPTED_IMPORT = """
import os, signal, sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "streamer.cli":
            os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, getattr(signal, sys.argv[1]))
sys.argv[1:] = ["--version"]
sys.meta_path.insert(0, Finder())
from streamer.__main__ import main
main()
"""


@pytest.mark.parametrize(
    ("handler", "code"), [("default_int_handler", INTERRUPTED), ("SIG_IGN", 0)]
)
def test_an_interrupt_at_the_very_start_shows_nothing(handler: str, code: int) -> None:
    """In the background of a script it is ignored, as the shell wants it."""
    command = [sys.executable, "-c", _INTERRUPTED_IMPORT, handler]
    result = subprocess.run(command, capture_output=True, check=False)
    assert (result.returncode, result.stderr) == (code, b"")
