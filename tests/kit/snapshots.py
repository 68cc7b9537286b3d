"""Compares a text with a file beside the tests; `UPDATE_SNAPSHOTS=1` writes the file instead."""

import os
from pathlib import Path


def assert_snapshot(file: Path, text: str) -> None:
    """Assert that a text is the file's.

    Raises:
        AssertionError: it differs, or there is no such file.
    """
    if os.environ.get("UPDATE_SNAPSHOTS"):
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8")
    assert file.is_file(), f"no {file}: run the test with UPDATE_SNAPSHOTS=1"
    assert text == file.read_text(encoding="utf-8"), f"{file.name}: see UPDATE_SNAPSHOTS=1"
