"""What surrounds the code: packaging, and the hooks before a commit."""

import re
import tomllib
from pathlib import Path

import yaml
from setuptools import find_packages  # type: ignore[import-untyped]  # it ships no types

ROOT = Path(__file__).parents[2]


def test_only_streamer_is_packaged() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    found = find_packages(str(ROOT), **project["tool"]["setuptools"]["packages"]["find"])
    assert "streamer.cli" in found
    assert {package.partition(".")[0] for package in found} == {"streamer"}


def test_the_hooks_run_what_make_lint_runs() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (recipe,) = re.findall(r"^lint:.*\n((?:\t.+\n)+)", makefile, re.MULTILINE)
    lint = [line.strip().replace("$(BIN)", ".venv/bin") for line in recipe.splitlines()]
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    (repository,) = config["repos"]
    assert repository["repo"] == "local"
    hooks = repository["hooks"]
    assert [hook["entry"] for hook in hooks] == lint
    assert {hook["language"] for hook in hooks} == {"system"}
    assert not any(hook["pass_filenames"] for hook in hooks)


def test_no_admin_client_is_asked_for_the_offsets_of_a_group() -> None:
    # librdkafka dies of SIGSEGV when the group's coordinator has just moved; a consumer of the
    # group can be asked instead.
    named = "list_consumer_group_offsets"
    sources = (ROOT / "streamer").rglob("*.py")
    assert [path for path in sources if named in path.read_text(encoding="utf-8")] == []
