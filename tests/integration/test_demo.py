"""The demo, small; and that nothing is left of it, whatever ends it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
import psutil
import pytest
from typer.testing import CliRunner

from streamer.cli import app
from streamer.demo import Act
from streamer.demo.acts import unsubscribing

pytestmark = pytest.mark.slow

_ONE = Act("one", 100, 1, False, 5.0)
_SMALL = (_ONE, Act("three", 1_500, 2, True, None, again=_ONE))

_KEYS = [
    "recipients", "sent", "skipped", "failed", "indeterminate", "dead", "seconds",
    "accepted", "accepted_twice", "calls", "suppression_p99_ms", "killed", "gone",
]  # fmt: skip


@pytest.fixture
def _handlers() -> Iterator[None]:
    """A command may handle signals as it likes, as its process is its own; ours is not."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("_handlers")
def test_counts_add_up_when_a_worker_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamer.cli.demo.ACTS", _SMALL)
    monkeypatch.setenv("STREAMER_TOPICS__OUTCOMES", "of-whoever-runs-the-demo")
    result = CliRunner().invoke(app, ["demo", "--json"])
    assert result.exit_code == 0, result.output
    answer = orjson.loads(result.stdout)  # and nothing else stands there
    assert list(answer) == ["acts", "ok"]
    assert answer["ok"] is True
    first, second = answer["acts"]
    assert list(first) == _KEYS
    assert (first["recipients"], first["sent"], first["skipped"]) == (100, 98, 2)
    assert (first["accepted"], first["accepted_twice"], first["killed"]) == (98, 0, 0)
    gone = second["gone"]
    assert gone >= len(unsubscribing(_ONE)) == 4
    assert first["gone"] == 0
    assert (second["recipients"], second["sent"]) == (1_500, 1_470 - gone)
    assert second["skipped"] == 30 + gone
    assert (second["accepted"], second["accepted_twice"]) == (1_470 - gone, 0)
    assert second["killed"] == 1
    assert first["calls"] >= 1
    assert second["calls"] >= 15
    assert first["suppression_p99_ms"] > 0
    assert "kill -9" in result.stderr


def _alone(demo: int, number: signal.Signals) -> None:
    os.kill(demo, number)


def _group(demo: int, number: signal.Signals) -> None:
    os.killpg(demo, number)


@pytest.mark.parametrize(
    ("number", "send", "code"),
    [
        pytest.param(signal.SIGINT, _group, 130, id="ctrl-c"),
        pytest.param(signal.SIGTERM, _alone, 143, id="sigterm"),
        pytest.param(signal.SIGKILL, _alone, -9, id="kill -9"),
    ],
)
def test_an_interrupted_demo_leaves_nothing(
    number: signal.Signals,
    send: Callable[[int, signal.Signals], None],
    code: int,
    tmp_path: Path,
) -> None:
    demo = subprocess.Popen(
        [sys.executable, "-m", "streamer", "demo"],
        env={"PATH": "/usr/bin:/bin", "TMPDIR": str(tmp_path), "HOME": str(Path.home())},
        stdout=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )
    assert demo.stdout is not None
    for line in demo.stdout:
        if line.startswith("act one"):
            break
    family = psutil.Process(demo.pid).children(recursive=True)
    assert len(family) >= 7  # Kafka, Redis, the sandbox, the gateway, a worker, two guards
    send(demo.pid, number)
    assert demo.wait(60) == code
    _, alive = psutil.wait_procs(family, timeout=20)
    assert alive == []
    deadline = time.monotonic() + 10
    while list(tmp_path.iterdir()):
        assert time.monotonic() < deadline, f"left: {list(tmp_path.iterdir())}"
        time.sleep(0.05)
