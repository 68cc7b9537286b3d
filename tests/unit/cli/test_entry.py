"""The entry point."""

import subprocess
import sys

from streamer.errors import INTERRUPTED

_INTERRUPTED_IMPORT = """
import sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "streamer.cli":
            raise KeyboardInterrupt

sys.meta_path.insert(0, Finder())
from streamer.__main__ import main
main()
"""


def test_an_interrupt_at_the_very_start_shows_nothing() -> None:
    command = [sys.executable, "-c", _INTERRUPTED_IMPORT]
    result = subprocess.run(command, capture_output=True, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (INTERRUPTED, b"", b"")
