"""Finding the server's binary."""

from pathlib import Path

import pytest

from streamer.stack import RedisServer, StackError
from streamer.stack import redis as module


@pytest.fixture
def bare_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty PATH."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))


@pytest.mark.usefixtures("bare_path")
@pytest.mark.parametrize("name", ["redis-server", "valkey-server"])
def test_binaries_on_the_path_are_found(tmp_path: Path, name: str) -> None:
    binary = tmp_path / "bin" / name
    binary.parent.mkdir()
    binary.touch(0o755)
    assert RedisServer(tmp_path).command()[0] == str(binary)


@pytest.mark.usefixtures("bare_path")
def test_a_missing_binary_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(StackError, match="apt-get install redis-server"):
        RedisServer(tmp_path).start()
