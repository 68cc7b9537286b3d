"""Checks of the Dockerfile that need no container engine."""

import re
import tomllib
from fnmatch import fnmatchcase

from streamer.settings import Settings
from tools.docs import ROOT

TEXT = (ROOT / "Dockerfile").read_text(encoding="utf-8")
CODE = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", TEXT, flags=re.MULTILINE))
INSTRUCTIONS = [line.split(maxsplit=1) for line in CODE.splitlines() if line]


def _of(word: str) -> list[str]:
    return [argument for name, argument in INSTRUCTIONS if name == word]


def test_each_package_is_verified() -> None:
    installs = [part for run in _of("RUN") for part in run.split("&&") if " install " in part]
    assert len(installs) == 3
    for install in installs:
        assert "--require-hashes" in install or "--no-deps --no-index" in install


def test_what_is_copied_is_not_ignored() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    kept = {line.removeprefix("!") for line in lines if line.startswith("!")}
    copied = {
        source.removeprefix("./")
        for arguments in _of("COPY")
        if "--from" not in arguments
        for source in arguments.split()[:-1]
    }
    assert copied == kept
    assert all((ROOT / name).exists() for name in kept)
    assert lines[0] == "*"
    assert any(fnmatchcase("streamer/cli/__pycache__", line) for line in lines[1:])


def test_workers_do_not_run_as_root() -> None:
    assert _of("USER") == ["10001:10001"]
    # So that the kubelet can verify that it is not root's.
    kubernetes = (ROOT / "config/kubernetes/base/deployment.yaml").read_text(encoding="utf-8")
    assert "runAsUser: 10001" in kubernetes


def test_the_health_check_asks_the_port_of_the_metrics() -> None:
    (check,) = _of("HEALTHCHECK")
    assert f"'STREAMER_METRICS__PORT', '{Settings().metrics.port}'" in check
    assert _of("EXPOSE") == [str(Settings().metrics.port)]


def test_the_label_s_version_is_the_project_s() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert f"VERSION={project['version']}" in _of("ARG")
    (labels,) = _of("LABEL")
    assert f'licenses="{project["license"]}"' in labels


def test_docker_stops_a_worker_by_the_signal_that_it_expects() -> None:
    assert _of("STOPSIGNAL") == ["SIGTERM"]
    assert _of("ENTRYPOINT") == ['["streamer"]']
