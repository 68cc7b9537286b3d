"""Runs a command in a terminal of its own, types into it, and reads what it shows."""

import os
import re
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pexpect

_CONTROL = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_=>])")


class Terminal:
    """A command in a terminal of 24 lines.

    Attributes:
        raw: all that it wrote so far, with escape codes.
    """

    def __init__(self, process: "pexpect.spawn[str]") -> None:
        self._process = process
        self.raw = ""
        self._seen = 0

    @property
    def text(self) -> str:
        """All that it wrote so far, without escape codes."""
        return _CONTROL.sub("", self.raw)

    def shows(self, words: str, seconds: float = 60) -> None:
        """Wait for words that are written after those of the last call."""
        deadline = time.monotonic() + seconds
        while (at := self.text.find(words, self._seen)) < 0:
            assert time.monotonic() < deadline, (
                f"no {words!r} in: {self.text[self._seen :][-3000:]}"
            )
            self._read()
        self._seen = at + len(words)

    def types(self, keys: str) -> None:
        """Type keys."""
        self._process.send(keys)

    def ends(self, seconds: float = 60) -> int | None:
        """Wait for the end; return the exit code."""
        deadline = time.monotonic() + seconds
        while self._process.isalive():
            assert time.monotonic() < deadline, self.text[-3000:]
            self._read()
        while self._read():
            pass
        return self._process.exitstatus

    def close(self) -> None:
        """End it by force."""
        self._process.close(force=True)

    def _read(self) -> bool:
        try:
            self.raw += self._process.read_nonblocking(65_536, timeout=0.2)
        except pexpect.TIMEOUT:
            return False
        except pexpect.EOF:
            return False
        return True


@contextmanager
def terminal(
    *arguments: str, environment: Mapping[str, str], columns: int = 80
) -> Iterator[Terminal]:
    """Run `streamer` in a terminal."""
    process = pexpect.spawn(
        sys.executable,
        ["-m", "streamer", *arguments],
        env={**os.environ, "TERM": "xterm-256color", **environment},
        dimensions=(24, columns),
        encoding="utf-8",
        codec_errors="replace",
        echo=False,
    )
    one = Terminal(process)
    try:
        yield one
    finally:
        one.close()
