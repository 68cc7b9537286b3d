"""Files and folders that only their owner can read: they hold addresses, mails or databases."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TextIO

_FILE, _FOLDER = 0o600, 0o700


def make_folder(path: Path) -> None:
    """Create a folder and its parents; those that exist keep their permissions."""
    for parent in reversed(path.absolute().parents):
        parent.mkdir(mode=_FOLDER, exist_ok=True)
    path.mkdir(mode=_FOLDER, exist_ok=True)


def create(path: Path) -> BinaryIO:
    """Create a file to write to.

    Raises:
        FileExistsError: something of that name exists, even a link or a device.
        OSError: it cannot be created.
    """
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _FILE), "wb")


@contextmanager
def replacing(path: Path) -> Iterator[TextIO]:
    """Write a file anew in UTF-8. It appears complete at the end of the block, or not at all.

    What is there already is replaced if it is a regular file, and written to if it is a device or a
    pipe. Line breaks are written as they are.

    Raises:
        OSError: it cannot be written.
    """
    if path.exists() and not path.is_file():
        with path.open("w", encoding="utf-8", newline="") as stream:
            yield stream
        return
    target = path.resolve()  # a link stays a link
    # Creates the file with a name of its own and mode 0600.
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    draft = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as stream:
            yield stream
        draft.replace(target)
    except BaseException:
        draft.unlink()
        raise
