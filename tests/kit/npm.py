"""Packages of npm, for tests of what others will do with streamer."""

import shutil
import subprocess
from pathlib import Path

import pytest

PATIENCE_S = 150


def install(package: str, folder: Path) -> None:
    """Install a package, given as `NAME@VERSION`; skips the test where that cannot be done."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("node and npm are not here")
    command = [npm, "install", "--no-save", "--no-package-lock", "--no-audit", "--no-fund"]
    try:
        done = subprocess.run(
            [*command, "--ignore-scripts", "--prefix", folder, package],
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        pytest.skip(f"npm did not install {package} in {PATIENCE_S} s")
    if done.returncode != 0:
        pytest.skip(f"npm cannot install {package}: {done.stderr.strip()[-300:]}")
