"""The demo, small; and that nothing is left of it, whatever ends it."""

import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest

from streamer.demo import Act, run_demo
from streamer.demo.acts import Endings


class _Notebook:
    """An audience that writes down what it hears."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, words: str) -> None:
        self.lines.append(words)

    def begin(self, act: Act) -> None:
        self.lines.append(f"act {act.name}")

    def see(self, endings: Endings, killed: int) -> None:
        del endings, killed

    @property
    def leaves(self) -> bool:
        return False


@pytest.mark.timeout(180)
def test_the_counts_add_up_also_when_a_worker_is_killed() -> None:
    acts = (Act("one", 100, 1, False, 5.0), Act("three", 1_500, 2, True, None))
    first, second = run_demo(acts, _Notebook())
    assert (first.sent, first.skipped, first.problems) == (98, 2, [])
    assert (second.sent, second.skipped, second.problems) == (1_470, 30, [])
    assert (first.killed, second.killed) == (0, 1)
    assert first.calls == 1
    assert first.as_json().keys() == {
        "recipients", "sent", "skipped", "failed", "indeterminate", "dead", "seconds",
        "accepted", "accepted_twice", "calls", "suppression_p99_ms", "killed",
    }  # fmt: skip


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_nothing_is_left_when_it_is_interrupted(number: signal.Signals, tmp_path: Path) -> None:
    demo = subprocess.Popen(
        [sys.executable, "-m", "streamer", "demo"],
        env={"PATH": "/usr/bin:/bin", "TMPDIR": str(tmp_path), "HOME": str(Path.home())},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert demo.stdout is not None
    for line in demo.stdout:
        if line.startswith("act one"):
            break
    family = psutil.Process(demo.pid).children(recursive=True)
    assert len(family) >= 4
    demo.send_signal(number)
    assert demo.wait(60) == 128 + number
    _, alive = psutil.wait_procs(family, timeout=10)
    assert alive == []
    deadline = time.monotonic() + 10
    while list(tmp_path.iterdir()):
        assert time.monotonic() < deadline, f"left in {tempfile.gettempdir()}"
        time.sleep(0.05)
