"""Files with addresses are readable by their owner alone."""

import os
from pathlib import Path

import pytest

from streamer import private_files


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_only_the_owner_can_read(tmp_path: Path) -> None:
    folder, file, copy = tmp_path / "a" / "b", tmp_path / "file", tmp_path / "copy"
    private_files.make_folder(folder)
    with private_files.create(file) as stream:
        stream.write(b"x")
    copy.write_text("old")
    copy.chmod(0o644)
    with private_files.replacing(copy) as text:
        text.write("a\r\nb\n")
    assert (mode(folder.parent), mode(folder)) == (0o700, 0o700)
    assert (mode(file), mode(copy)) == (0o600, 0o600)
    assert copy.read_bytes() == b"a\r\nb\n"


def test_nothing_that_exists_is_created_anew(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    link.symlink_to(target)
    with pytest.raises(FileExistsError):
        private_files.create(link)
    assert not target.exists()


def test_a_file_is_complete_or_absent(tmp_path: Path) -> None:
    file, link = tmp_path / "file", tmp_path / "link"
    file.write_text("old")
    link.symlink_to(file)
    stopped = private_files.replacing(link)
    stopped.__enter__().write("half")
    assert stopped.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None) is not True
    assert file.read_text() == "old"
    assert sorted(tmp_path.iterdir()) == [file, link]
    # Two at once do not disturb each other.
    with private_files.replacing(link) as one, private_files.replacing(file) as two:
        one.write("one")
        two.write("two")
    assert file.read_text() == "one"
    assert link.is_symlink()


def test_a_device_stays_a_device(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with private_files.replacing(pipe) as stream:
            stream.write("x")
        assert os.read(reader, 10) == b"x"
    finally:
        os.close(reader)
    assert pipe.is_fifo()
